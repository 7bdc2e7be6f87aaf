"""The heart of a build: one unit (a run of clips of one source) → samples and what was skipped.

`transcode(unit, options)` is a pure function of the source's bytes and its arguments. It opens the
source once, decodes picture and sound side by side, and lays both on one clock: seconds since the
source's first picture. Output frame n shows what is on screen at the middle of its interval,
(n + ½) / fps; sound is placed by its own timestamps.
"""

import hashlib
import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from shards.encode import VideoEncoder, encode_flac
from shards.errors import SourceError
from shards.media import audio_stream, describe, open_container, video_stream
from shards.options import BuildOptions
from shards.picture import Color, PictureFitter, coded_color
from shards.sample import SampleInfo, key_from_source
from shards.sound import SoundTimeline
from shards.tracks import TrackTable, demux_tracks

SEEK_MARGIN_SECONDS = 2  # sound may lie this much before its picture in a file
INTERLEAVE_SECONDS = 10  # and at most this much after
MIN_AUDIO_COVERAGE = 0.5  # less real sound than this, and a clip has none
MADE_BY = "gdt shards build 1"


@dataclass(frozen=True)
class Unit:
    """A run of `num_clips` clips of one source, from `start_seconds` on (source clock).

    size, mtime_ns and origin are the source's as it was planned. `row` is what the source list
    said of it (label, caption, metadata).
    """

    number: int
    name: str
    path: str
    size: int
    mtime_ns: int
    origin: Fraction
    part: str
    first_clip: int
    num_clips: int
    start_seconds: Fraction
    has_audio: bool
    row: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltSample:
    """One finished clip: members by extension, and their packet tables."""

    key: str
    members: dict[str, bytes]
    tracks: tuple[TrackTable, ...]


@dataclass(frozen=True)
class UnitResult:
    """The samples of a unit in order, and its other clips counted by cause."""

    samples: tuple[BuiltSample, ...]
    skipped: dict[str, int]
    details: tuple[str, ...] = ()


def transcode(unit: Unit, options: BuildOptions) -> UnitResult:
    """Make the clips of a unit.

    Raises:
        SourceError: the source cannot be read at all, or changed since it was planned.
    """
    try:
        file = Path(unit.path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise SourceError("open", "cannot be opened", error.strerror or str(error)) from error
    with file:
        _check_unchanged(file, unit, "since the build was planned")
        sha256 = _source_sha256(file, unit)
        with open_container(file) as container:
            work = _Work(container, unit, options)
            work.run()
        _check_unchanged(file, unit, "while it was read")
    return work.finish(sha256)


class _Work:
    """The state of one unit's only pass over its source."""

    def __init__(self, container: Any, unit: Unit, options: BuildOptions) -> None:
        self._unit, self._options, self._container = unit, options, container
        self._video = video_stream(container)
        self._audio = audio_stream(container) if unit.has_audio else None
        rate = options.sample_rate_hz
        self._sample_stops = [
            round(n * options.clip_length * rate) for n in range(unit.num_clips + 1)
        ]
        self._stop = unit.start_seconds + unit.num_clips * options.clip_length
        self._sound = SoundTimeline(unit.start_seconds, self._sample_stops[-1], rate)
        self._fitter = PictureFitter(options, self._video.sample_aspect_ratio)
        self._clips: list[tuple[bytes, Color]] = []
        self._encoder: VideoEncoder | None = None
        self._next_frame = 0  # of the unit
        self._num_frames = unit.num_clips * options.frames_per_clip
        self._shown: Any = None  # the last decoded picture, on screen until the next one's time
        self._shown_time = Fraction(0)
        self._fitted: Any = None  # the same, at the coded size, once it was needed
        self._details: list[str] = []
        self._damaged: set[int] = set()  # clips in which the decoder met an error

    def run(self) -> None:
        """Decode until the unit's clips are covered, or the source ends."""
        self._seek()
        video_done, audio_done = False, self._audio is None
        streams = [s for s in (self._video, self._audio) if s is not None]
        for packet in self._packets(streams):
            is_video = packet.stream is self._video or packet.stream.index == self._video.index
            if is_video and not video_done:
                for frame in self._decode(packet):
                    self._show(frame)
                video_done = self._next_frame >= self._num_frames
            elif is_video and packet.dts is not None:
                late = packet.dts * packet.time_base - self._unit.origin - self._stop
                audio_done = audio_done or late > INTERLEAVE_SECONDS
            elif not is_video and not audio_done:
                for frame in self._decode(packet):
                    audio_done = self._hear(frame) >= self._stop
            if video_done and audio_done:
                break
        else:
            self._show_last()
        self._sound.finish()

    def _seek(self) -> None:
        unit = self._unit
        if unit.start_seconds <= SEEK_MARGIN_SECONDS:
            return
        wanted = unit.start_seconds - SEEK_MARGIN_SECONDS + unit.origin
        try:
            self._container.seek(int(wanted / self._video.time_base), stream=self._video)
        except av.FFmpegError:
            self._container.seek(0)

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        """The packets of both streams, then one empty packet for each; a broken file just ends."""
        try:
            yield from self._container.demux(streams)
        except av.FFmpegError as error:
            self._details.append(f"reading stopped: {describe(error)}")

    def _decode(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except av.FFmpegError as error:
            if packet.pts is not None:
                time = packet.pts * packet.time_base - self._unit.origin
                clip = (time - self._unit.start_seconds) // self._options.clip_length
                self._damaged.add(int(clip))
                self._details.append(
                    f"{packet.stream.type} at {float(time):.3f} s: {describe(error)}"
                )
            return []

    def _show(self, frame: Any) -> None:
        if frame.pts is None:
            return
        time = frame.pts * frame.time_base - self._unit.origin
        if self._shown is not None:
            self._emit_until(time)
        self._shown, self._shown_time, self._fitted = frame, time, None

    def _show_last(self) -> None:
        if self._shown is not None:
            duration = (self._shown.duration or 0) * self._shown.time_base
            duration = duration or 1 / Fraction(
                self._video.average_rate or self._options.frame_rate
            )
            self._emit_until(self._shown_time + duration)

    def _emit_until(self, time: Fraction) -> None:
        """Encode the picture on screen for every output frame whose middle comes before `time`."""
        rate = self._options.frame_rate
        stop = (time - self._unit.start_seconds) * rate - Fraction(1, 2)  # frames n < stop
        while self._next_frame < self._num_frames and self._next_frame < stop:
            middle = self._unit.start_seconds + (self._next_frame + Fraction(1, 2)) / rate
            if middle < self._shown_time:
                raise SourceError("decode", "seeking missed a picture", f"at {float(middle):.3f} s")
            self._emit()

    def _emit(self) -> None:
        if self._encoder is None:
            self._encoder = VideoEncoder(self._options, coded_color(self._shown))
        if self._fitted is None:
            self._fitted = self._fitter.fit(self._shown)
        self._encoder.push(self._fitted)
        self._next_frame += 1
        if self._next_frame % self._options.frames_per_clip == 0:
            self._clips.append((self._encoder.finish(), self._encoder.color))
            self._encoder = None

    def _hear(self, frame: Any) -> Fraction:
        """Lay a decoded sound frame down; returns the time at which it ends."""
        if frame.pts is None:
            return Fraction(0)
        time = Fraction(frame.pts * frame.time_base) - self._unit.origin
        samples, rate = frame.samples, frame.sample_rate
        self._sound.push(frame, time)
        return time + Fraction(samples, rate)

    def finish(self, sha256: str) -> UnitResult:
        """Encode the sound, index the members, and account for every clip."""
        unit, options = self._unit, self._options
        skipped: Counter[str] = Counter()
        samples = []
        for n in range(unit.num_clips):
            first, stop = self._sample_stops[n], self._sample_stops[n + 1]
            heard = self._audio is not None and (
                self._sound.coverage(first, stop) >= MIN_AUDIO_COVERAGE
            )
            if n >= len(self._clips):
                skipped["the source ends before its declared length"] += 1
            elif n in self._damaged:
                skipped["undecodable: the decoder met an error in the clip"] += 1
            elif "audio" in options.require and not heard:
                skipped["no sound in the clip" if self._audio else "no audio stream"] += 1
            else:
                sound = self._sound.samples[first:stop] if heard else None
                samples.append(self._sample(n, *self._clips[n], sound, sha256))
        return UnitResult(tuple(samples), dict(skipped), tuple(self._details[:20]))

    def _sample(self, n: int, video: bytes, color: Color, sound: Any, sha256: str) -> BuiltSample:
        unit, options = self._unit, self._options
        key = key_from_source(unit.name, unit.first_clip + n)
        start = unit.start_seconds + n * options.clip_length
        info = SampleInfo(
            key=key,
            source=unit.name,
            source_sha256=sha256,
            start_seconds=round(float(start), 9),
            stop_seconds=round(float(start + options.clip_length), 9),
            width=options.width,
            height=options.height,
            num_frames=options.frames_per_clip,
            frame_rate=round(float(options.frame_rate), 9),
            color_matrix=color.matrix,
            color_range=color.range,
            sample_rate_hz=options.sample_rate_hz if sound is not None else None,
            num_samples=len(sound) if sound is not None else None,
            made_by=MADE_BY,
            **unit.row,
        )
        members = {"mp4": video}
        if sound is not None:
            members["flac"] = encode_flac(sound, options.sample_rate_hz)
        tracks = [t for extension, data in members.items() for t in demux_tracks(data, extension)]
        members["json"] = info.to_json()
        return BuiltSample(key, members, tuple(tracks))


def _check_unchanged(file: Any, unit: Unit, when: str) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (unit.size, unit.mtime_ns):
        detail = f"{unit.size} bytes then, {now.st_size} now"
        raise SourceError("open", f"the source changed {when}", detail)


_last_sha256: tuple[tuple[str, int, int], str] | None = None


def _source_sha256(file: Any, unit: Unit) -> str:
    """The source's digest; units of one film follow each other, so the last one is remembered."""
    global _last_sha256
    identity = (unit.path, unit.size, unit.mtime_ns)
    if _last_sha256 is None or _last_sha256[0] != identity:
        _last_sha256 = (identity, hashlib.file_digest(file, "sha256").hexdigest())
    return _last_sha256[1]


def machine() -> str:
    """The libraries that decide the bytes, for the manifest."""
    versions = ".".join(str(v) for v in av.library_versions["libavcodec"])
    return f"PyAV {av.__version__}, libavcodec {versions}, {platform.machine()}"
