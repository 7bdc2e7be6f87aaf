"""The heart of a build: one unit (a run of clips of one source) → samples, and what was skipped.

`transcode(unit, options)` is a pure function of the source's bytes and its arguments. It decodes
video and audio side by side, in one pass, and lays both on one clock: seconds since the source's
first frame. Frames are timed and encoded (reencode.py), or copied (stream_copy.py); audio is
placed by its own timestamps.
"""

import platform
from collections import Counter
from dataclasses import dataclass

import av
import numpy as np
import numpy.typing as npt

from shards.encoding.audio import AUDIO_FORMATS, encode_audio
from shards.encoding.audio_timeline import AudioTimeline
from shards.encoding.clip_filters import is_silent
from shards.encoding.reencode import ClipEncoder, ClipVideo, Span
from shards.encoding.stream_copy import ClipCopier
from shards.errors import SourceError
from shards.format.sample import SampleInfo, key_from_source
from shards.format.tracks import TrackTable
from shards.media.color import coded_color
from shards.media.container import describe
from shards.media.demux import demux_tracks
from shards.media.faults import sources_fault
from shards.media.probe import Probe
from shards.media.source_reader import INTERLEAVE_SECONDS, SourceReader
from shards.options import BuildOptions
from shards.sources.source import Source
from shards.storage.opening import Identity, Location, OpenSource, open_source
from shards.storage.transfer import RemoteOptions
from shards.storage.urls import is_url

MIN_AUDIO_COVERAGE = 0.5  # a clip whose audio covers less than this has none
WHOLE_AUDIO_COVERAGE = 0.999  # and one of less than this lacks some, where it is known to be cut
MADE_BY = "gdt shards build 1"

ENDS_EARLY = "the video ends before the declared length"
DAMAGED = "the decoder met damage"
NO_AUDIO_IN_CLIP = "no audio in the clip"
NO_AUDIO = "no audio stream"
SILENT = "the audio is silent"
STATIC = "the video hardly changes"
INTERLACED = "the video is interlaced"
IN_HDR = "the video is HDR"
AUDIO_TOO_LATE = f"the audio lies more than {INTERLEAVE_SECONDS} s behind its video in the file"


@dataclass(frozen=True)
class Unit:
    """A run of clips of one source, in order; the first of them is number `first_clip`.

    probe: the source as it was planned. Clips are numbered within the source's range.
    """

    number: int
    source: Source
    probe: Probe
    part: str
    first_clip: int
    clips: tuple[Span, ...]

    @property
    def num_clips(self) -> int:
        """How many clips there are."""
        return len(self.clips)


@dataclass(frozen=True)
class BuiltSample:
    """One finished clip: members by extension, and their packet tables."""

    key: str
    members: dict[str, bytes]
    tracks: tuple[TrackTable, ...]


@dataclass(frozen=True)
class UnitResult:
    """The samples of a unit in order, its other clips counted by cause, and notes on them.

    deinterlaced: how many of the samples are of frames that were interlaced; tone_mapped: of HDR
    or wide colours.
    """

    samples: tuple[BuiltSample, ...]
    skipped: dict[str, int]
    details: tuple[str, ...] = ()
    deinterlaced: int = 0
    tone_mapped: int = 0


def transcode(unit: Unit, options: BuildOptions, remote: RemoteOptions | None = None) -> UnitResult:
    """Make the clips of a unit; `remote` says how a URL is read.

    Raises:
        SourceError: the source cannot be read at all, or changed since it was planned.
    """
    with sources_fault("decode"):
        return _transcode(unit, options, remote)


def _transcode(unit: Unit, options: BuildOptions, remote: RemoteOptions | None) -> UnitResult:
    options = options.for_source(unit.probe.frame_rate, unit.probe.frame_size)
    with open_source(unit.source.location, remote) as source:
        _check_unchanged(source, unit, "since the build was planned")
        sha256 = _source_sha256(source, unit)
        start, stop = unit.clips[0].start, unit.clips[-1].stop
        reader = SourceReader(
            source.file,
            unit.probe.origin,
            start,
            stop,
            with_audio=unit.probe.has_audio,
            coded_pictures=options.copies,
            seeks=not unit.probe.clock_jumps,
            tracks=options.tracks,
        )
        video: ClipEncoder | ClipCopier
        if options.copies:
            video = ClipCopier(unit.clips, options)
        else:
            video = ClipEncoder(unit.clips, options, reader)
        samples = _sample_ranges(unit, options)
        audio = AudioTimeline(start, samples[-1][1], options.sample_rate_hz, options.channels)
        try:
            for item in reader.frames():
                if item.is_video:
                    video.show(item.frame, item.time)
                else:
                    audio.push(item.frame, item.time)
        except av.FFmpegError as error:
            raise SourceError("decode", "a frame cannot be converted", describe(error)) from error
        video.finish()
        audio.finish()
        _check_unchanged(source, unit, "while it was read")
    return _collect(unit, options, reader, video.clips, audio, samples, sha256)


def _sample_ranges(unit: Unit, options: BuildOptions) -> list[tuple[int, int]]:
    """Where each clip's samples begin and end in the unit's audio."""
    zero, rate = unit.clips[0].start, options.sample_rate_hz
    return [(round((a - zero) * rate), round((b - zero) * rate)) for a, b in unit.clips]


def _collect(
    unit: Unit,
    options: BuildOptions,
    reader: SourceReader,
    clips: list[ClipVideo],
    audio: AudioTimeline,
    sample_ranges: list[tuple[int, int]],
    sha256: str | None,
) -> UnitResult:
    """Account for every clip: a sample, or a cause."""
    skipped: Counter[str] = Counter()
    samples = []
    deinterlaced = tone_mapped = 0
    notes = [*reader.notes, *audio.notes]
    damaged = _damaged_clips(unit, reader)
    for n, (first, stop) in enumerate(sample_ranges):
        heard = reader.has_audio and audio.coverage(first, stop) >= MIN_AUDIO_COVERAGE
        wave = audio.samples[:, first:stop] if heard else None
        if n >= len(clips):
            skipped[ENDS_EARLY] += 1
        elif n in damaged or clips[n].is_damaged:
            skipped[DAMAGED] += 1
        elif reader.audio_is_too_late and audio.coverage(first, stop) < WHOLE_AUDIO_COVERAGE:
            skipped[AUDIO_TOO_LATE] += 1
        elif wave is None and options.requires_audio:
            skipped[NO_AUDIO_IN_CLIP if reader.has_audio else NO_AUDIO] += 1
        elif wave is not None and "audible" in options.require and is_silent(wave):
            skipped[SILENT] += 1
        elif clips[n].is_static:
            skipped[STATIC] += 1
        elif options.copies and clips[n].was_interlaced:
            skipped[INTERLACED] += 1
        elif clips[n].is_hdr and options.hdr == "skip":
            skipped[IN_HDR] += 1
        else:
            try:
                with sources_fault("encode"):
                    samples.append(_sample(unit, options, n, clips[n], wave, sha256))
                deinterlaced += clips[n].was_interlaced
                tone_mapped += clips[n].was_mapped
            except SourceError as error:
                skipped[error.cause] += 1
                notes.append(f"clip {unit.first_clip + n}: {error}")
    return UnitResult(tuple(samples), dict(skipped), tuple(notes), deinterlaced, tone_mapped)


def _damaged_clips(unit: Unit, reader: SourceReader) -> set[int]:
    return {
        n
        for start, stop in reader.damage
        for n, clip in enumerate(unit.clips)
        if clip.start < stop and clip.stop > start
    }


def _sample(
    unit: Unit,
    options: BuildOptions,
    n: int,
    video: ClipVideo,
    wave: npt.NDArray[np.int16] | None,
    sha256: str | None,
) -> BuiltSample:
    about = unit.source
    key = key_from_source(about.name, unit.first_clip + n, about.range_text)
    start, stop = unit.clips[n]
    info = SampleInfo(
        key=key,
        source=about.name,
        source_sha256=sha256,
        source_version=unit.probe.version if is_url(about.location.path) else None,
        start_seconds=round(float(start), 9),
        stop_seconds=round(float(stop), 9),
        width=options.width,
        height=options.height,
        num_frames=video.num_frames,
        frame_rate=round(float(options.frame_rate), 9),
        color_matrix=coded_color(options.codec).matrix,
        color_range=coded_color(options.codec).range,
        sample_rate_hz=options.sample_rate_hz if wave is not None else None,
        num_samples=wave.shape[1] if wave is not None else None,
        num_channels=len(wave) if wave is not None else None,
        deinterlaced=video.was_interlaced or None,
        tone_mapped=video.was_mapped or None,
        made_by=f"{MADE_BY}, pictures copied" if options.copies else MADE_BY,
        **about.row,
    )
    members = {"mp4": video.data}
    if wave is not None:
        extension = AUDIO_FORMATS[options.audio].extension
        members[extension] = encode_audio(wave, options.sample_rate_hz, options.audio)
    tracks = [t for extension, data in members.items() for t in demux_tracks(data, extension)]
    members["json"] = info.to_json()
    return BuiltSample(key, members, tuple(tracks))


def _check_unchanged(source: OpenSource, unit: Unit, when: str) -> None:
    now = source.identity()
    if now != Identity(unit.probe.size, unit.probe.version):
        detail = f"{unit.probe.size} bytes then, {now.size} now"
        raise SourceError("open", f"the source changed {when}", detail)


_last_sha256: tuple[tuple[Location, int, str], str | None] | None = None


def _source_sha256(source: OpenSource, unit: Unit) -> str | None:
    """The source's digest; units of one video follow each other, so the last one is remembered."""
    global _last_sha256
    identity = (unit.source.location, unit.probe.size, unit.probe.version)
    if _last_sha256 is None or _last_sha256[0] != identity:
        _last_sha256 = (identity, source.sha256())
    return _last_sha256[1]


def machine() -> str:
    """The libraries that decide the bytes, for the manifest."""
    versions = ".".join(str(v) for v in av.library_versions["libavcodec"])
    return f"PyAV {av.__version__}, libavcodec {versions}, {platform.machine()}"
