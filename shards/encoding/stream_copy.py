"""Copy a source's video into clips without encoding it again, where it already fits.

    borders(source)      at planning: does it fit, and at which times may a clip begin and end?
    ClipCopier           at building: packets of whole GOPs → mp4s with times from zero

No frame is encoded again, so a source must fit as it is: codec, size and rate that were asked
for, 8-bit 4:2:0 in BT.709 (limited), square upright pixels, not interlaced, closed GOPs no longer
than a clip. Each clip is decoded once, alone, to see that it can be.
"""

import io
import itertools
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Any, BinaryIO, NamedTuple

import av

from shards.encoding.clip_filters import MotionMeter
from shards.encoding.reencode import ClipVideo, Span
from shards.encoding.video import Memory, open_mp4
from shards.errors import SourceError
from shards.media.color import coded_color, matrix_name
from shards.media.container import open_container
from shards.media.faults import sources_fault
from shards.media.frame_fitting import is_full_range, orientation
from shards.media.hdr import needs_mapping
from shards.media.orientation import UPRIGHT
from shards.media.streams import demux, first_frame, video_stream
from shards.options import SOURCE, BuildOptions


class _Times(NamedTuple):
    """When a packet's frame is shown, in ticks; a decoder can start at a keyframe."""

    shown: int
    is_key: bool


def cut_points(file: BinaryIO, options: BuildOptions) -> tuple[Fraction, ...]:
    """The times of a source's keyframes, and of its end, in seconds from its first frame.

    Reads every packet and decodes the first frame.

    Args:
        file: the source.
        options: what is asked for, with this source's own rate where that is asked for.

    Raises:
        SourceError: the source cannot be copied, and what it is that does not fit.
    """
    with open_container(file) as container:
        _check_form(container, options)
    with open_container(file) as container:
        video = video_stream(container, options.tracks)
        times, stop = _packet_times(container, video)
        tick = Fraction(video.time_base)
    gops = _closed_gops(times)
    origin = gops[0][0].shown
    limits = [*(gop[0].shown for gop in gops), stop]
    longest = max(b - a for a, b in itertools.pairwise(limits))
    if longest * tick > options.clip_length + 1 / (2 * options.frame_rate):
        detail = f"up to {float(longest * tick):.3f} s; a clip is {float(options.clip_length):g} s"
        raise _unfit("keyframes too far apart", detail)
    _check_rate([t.shown - origin for gop in gops for t in gop], tick, options)
    return tuple((time - origin) * tick for time in limits)


def _unfit(cause: str, detail: str) -> SourceError:
    return SourceError("copy", cause, f"{detail}; build with --profile fast")


def _check_form(container: Any, options: BuildOptions) -> None:
    """What the first frame and the header say of codec, size, pixels and colours."""
    video = video_stream(container, options.tracks)
    codec = video.codec_context
    frame = first_frame(container, video)
    name, size = codec.codec.canonical_name, (frame.width, frame.height)
    if name != options.codec:
        raise _unfit("another codec", f"{name}, not {options.codec}")
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        raise _unfit("another pixel format", f"{frame.format.name}, not yuv420p")
    if size[0] % 2 or size[1] % 2:
        raise _unfit("an odd size", f"{size[0]}×{size[1]}")
    if options.size != SOURCE and size != (options.width, options.height):
        detail = f"{size[0]}×{size[1]}, not {options.width}×{options.height}; try --size source, or"
        raise SourceError("copy", "another size", f"{detail} build with --profile fast")
    if (video.sample_aspect_ratio or 1) != 1:
        aspect = video.sample_aspect_ratio
        raise _unfit("pixels that are not square", f"{aspect.numerator}:{aspect.denominator}")
    if orientation(frame) != UPRIGHT:
        signs = orientation(frame)
        raise _unfit("a rotation", f"{frame.rotation} degrees, display matrix {signs}")
    if needs_mapping(frame):
        detail = f"transfer {frame.color_trc}, primaries {frame.color_primaries}"
        raise _unfit("HDR or wide colours", detail)
    if frame.interlaced_frame:
        raise _unfit("interlaced video", "each holds two fields, taken one after the other")
    matrix = matrix_name(frame.colorspace, frame.height)
    extent = "full" if is_full_range(frame) else "limited"
    color = coded_color(options.codec)
    if (matrix, extent) != (color.matrix, color.range):
        raise _unfit("other colours", f"{matrix} {extent}, not {color.matrix} {color.range}")


def _packet_times(container: Any, video: Any) -> tuple[list[_Times], int]:
    """The times of all packets up to a damaged one or the end of the file, and when that is."""
    times: list[_Times] = []
    stop = 0
    with suppress(av.FFmpegError):  # a broken file ends where it breaks
        for packet in demux(container, video):
            if packet.is_corrupt:
                break
            if not packet.size:
                continue
            if packet.pts is None:
                raise _unfit("a frame without a time", f"packet {len(times)}")
            if packet.is_discard:
                raise _unfit("an edit list that cuts within a GOP", f"packet {len(times)}")
            times.append(_Times(packet.pts, packet.is_keyframe))
            stop = max(stop, packet.pts + (packet.duration or 0))
    if not times:
        raise SourceError("probe", "no frame can be decoded")
    return times, stop


def _closed_gops(times: Sequence[_Times]) -> list[list[_Times]]:
    """The packets in file order, by GOP; every frame of one is shown before all of the next."""
    gops: list[list[_Times]] = []
    for time in times:
        if time.is_key:
            gops.append([])
        elif not gops:
            raise _unfit("no keyframe at the start", "the first frame needs one before it")
        gops[-1].append(time)
    end = None
    for gop in gops:
        first = min(gop).shown
        if gop[0].shown != first or (end is not None and first <= end):
            raise _unfit("open GOPs", "frames are shown before the keyframe they come after")
        end = max(gop).shown
    return gops


def _check_rate(shown: list[int], tick: Fraction, options: BuildOptions) -> None:
    """Where a rate was asked for, every frame must be within half a frame of its place."""
    if options.keeps_rate:
        return
    for number, ticks in enumerate(sorted(shown)):
        off = ticks * tick - number / options.frame_rate
        if abs(off) * options.frame_rate > Fraction(1, 2):
            detail = f"frame {number} is at {float(ticks * tick):.3f} s, not "
            detail += f"{float(number / options.frame_rate):.3f} s; try --fps source, or"
            raise SourceError("copy", "another frame rate", f"{detail} build with --profile fast")


class ClipCopier:
    """Collect the packets of a unit's clips; `clips` are the finished ones, in order."""

    def __init__(self, spans: Sequence[Span], options: BuildOptions) -> None:
        self.clips: list[ClipVideo] = []
        self._spans, self._options = spans, options
        self._packets: list[Any] = []
        self._file: Memory | None = None
        self._container: Any = None
        self._stream: Any = None

    def show(self, packet: Any, time: Fraction) -> None:
        """Take the next packet in file order, whose frame is shown at `time`."""
        if packet.is_keyframe and self._packets and time >= self._spans[len(self.clips)].stop:
            self._finish_clip()
        if len(self.clips) == len(self._spans):
            return
        start, stop = self._spans[len(self.clips)]
        if start <= time < stop and (self._packets or (packet.is_keyframe and time == start)):
            if not self._packets:
                self._file = Memory()
                self._container = open_mp4(self._file, movflags="+negative_cts_offsets")
                self._stream = self._container.add_stream_from_template(packet.stream, opaque=True)
            self._packets.append(packet)

    def finish(self) -> None:
        """The source has no more packets for this unit."""
        if self._packets:
            self._finish_clip()

    def _finish_clip(self) -> None:
        """Mux the packets, times from zero; decoding times follow from those of showing."""
        assert self._file is not None
        tick = self._packets[0].time_base
        span = self._spans[len(self.clips)]
        origin = self._packets[0].pts
        shown = [packet.pts - origin for packet in self._packets]
        order = [*sorted(shown), round((span.stop - span.start) / tick)]
        delay = max(a - b for a, b in zip(order, shown, strict=False))
        try:
            with sources_fault("copy"):  # some damage is met by the muxer, which looks into packets
                for n, packet in enumerate(self._packets):
                    packet.pts, packet.dts = shown[n], order[n] - delay
                    packet.duration = order[n + 1] - order[n]
                    packet.stream = self._stream
                    self._container.mux(packet)
                self._container.close()
                self.clips.append(self._checked(self._file.getvalue(), len(shown)))
        except SourceError:
            self.clips.append(ClipVideo(b"", len(shown), is_static=False, is_damaged=True))
        self._packets = []

    def _checked(self, data: bytes, num_frames: int) -> ClipVideo:
        """Decode the clip: it is damaged unless every packet gives a frame without fault."""
        wanted = "motion" in self._options.require
        motion = MotionMeter(num_frames, self._options.frame_rate) if wanted else None
        whole, interlaced = 0, False
        with open_container(io.BytesIO(data)) as container, suppress(av.FFmpegError):
            for frame in container.decode(video_stream(container)):
                whole += not frame.is_corrupt
                interlaced |= bool(frame.interlaced_frame)
                if motion is not None:
                    motion.see(frame)
        static = motion is not None and motion.is_static
        return ClipVideo(data, num_frames, static, whole != num_frames, interlaced)
