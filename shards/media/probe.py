"""What a source is, before it is cut: its size and rate, and from when to when it lasts.

A header's length is not believed where packets go on after it (a recording that was not closed, a
converter's mistake). A file whose packets are listed in its header has no others; of any other, the
end is read: from the declared end on, or all of it where a clock may start anew, or nothing is
declared.
"""

from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av

from shards.errors import SourceError
from shards.media.claimed_samples import check_claimed_samples
from shards.media.container import open_container
from shards.media.joined import second_recording
from shards.media.limits import MAX_HOURS, MAX_RATE, MIN_RATE
from shards.media.streams import (
    DEFAULT,
    audio_stream,
    clock_of,
    demux,
    first_frame,
    has_packet_table,
    is_quicktime,
    times_may_jump,
    video_stream,
)
from shards.options import TrackChoice
from shards.storage.opening import Location, open_source
from shards.storage.transfer import RemoteOptions

_REST_BYTES, _REST_SHARE = 1 << 16, 0.1  # after the last video packet: indexes take less
_PAUSE_SECONDS = 60  # a packet this long after all before it says nothing of the end


@dataclass(frozen=True)
class Probe:
    """What a source says of itself, after its first frame was decoded.

    origin: presentation time of the first frame, in seconds of the container's clock; all
    times of the source count from it. duration_seconds: from the first frame on, as declared, or
    to the last packet where that ends later. frame_rate: declared, or on average; from 1 to 240.
    size, version: the source's identity. clock_jumps: whether the container's clock starts anew
    (see continuous_clock.py), so that no seek finds a time. has_unread_rest: whether much of the
    file lies after the last video packet, as where files are joined that a demuxer ends between.
    """

    width: int
    height: int
    origin: Fraction
    duration_seconds: Fraction
    frame_rate: Fraction
    has_audio: bool
    size: int
    version: str
    clock_jumps: bool = False
    has_unread_rest: bool = False

    @property
    def frame_size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


def probe(
    location: Location, remote: RemoteOptions | None = None, tracks: TrackChoice = DEFAULT
) -> Probe:
    """Read a source's header, its first frame, and where its packets end.

    Raises:
        SourceError: the source cannot become clips, and why.
    """
    with open_source(location, remote) as source:
        identity = source.identity()
        check_claimed_samples(source.file)
        with open_container(source.file) as container:
            video = video_stream(container, tracks)
            first = first_frame(container, video)
            origin = first.pts * first.time_base
            declared = _declared_end(container, video)
            rate = _frame_rate(video)
            has_audio = audio_stream(container, tracks) is not None
            listed, demuxer = has_packet_table(container, video), container.format.name
        end, jumps, last = declared, False, identity.size
        if end is None or not listed:
            end, jumps, last = _packets_end(source.file, declared, tracks)
            if declared is not None and not jumps and end - declared <= 1 / rate:
                end = declared
        rest = identity.size - last
        is_long = rest > max(_REST_BYTES, _REST_SHARE * identity.size)
        another = second_recording(source.file, demuxer, last) is not None
        return Probe(
            width=first.width,
            height=first.height,
            origin=origin,
            duration_seconds=_duration(origin, end),
            frame_rate=rate,
            has_audio=has_audio,
            size=identity.size,
            version=identity.version,
            clock_jumps=jumps,
            has_unread_rest=another or (is_long and not jumps),
        )


def _declared_end(container: Any, stream: Any) -> Fraction | None:
    """When the video ends by the header, in seconds of the container's clock."""
    if stream.duration:
        return Fraction(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if container.duration:
        return Fraction((container.start_time or 0) + container.duration, 1_000_000)
    return None


def _duration(origin: Fraction, end: Fraction) -> Fraction:
    if end - origin > MAX_HOURS * 3600:
        declared = f"{float(end - origin) / 3600:.0f} h"
        raise SourceError("probe", f"declares more than {MAX_HOURS} hours", declared)
    return max(Fraction(0), end - origin)


def _frame_rate(stream: Any) -> Fraction:
    """Frames a second, on average; a container that rounds it means n or n · 1000/1001."""
    found = [r for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r]
    likely = [r for r in found if MIN_RATE <= r <= MAX_RATE] or found or [25]
    rate = min(max(Fraction(likely[0]), Fraction(MIN_RATE)), Fraction(MAX_RATE))
    whole = Fraction(round(rate))
    for standard in (whole, whole * 1000 / 1001):
        if abs(rate / standard - 1) < Fraction(1, 10_000):
            return standard
    return rate.limit_denominator(1001)


def _packets_end(
    file: BinaryIO, declared: Fraction | None, tracks: TrackChoice
) -> tuple[Fraction, bool, int]:
    """When the last frame ends, whether the clock jumped, and the last video packet's last byte.

    What is before `declared` may be left unread, unless a jump shows after it.
    """
    if declared is not None:
        with open_container(file) as container:
            video = video_stream(container, tracks)
            whole = times_may_jump(container) or is_quicktime(container)  # one in fragments
            whole |= container.format.name == "nut"  # a joined one finds times in its last part
            if not whole and _seek(container, video, declared):
                end, jumps, last = _read_to_end(container, video)
                if not jumps:
                    return end, False, last
    with open_container(file) as container:
        return _read_to_end(container, video_stream(container, tracks))


def _seek(container: Any, video: Any, time: Fraction) -> bool:
    with suppress(av.FFmpegError):
        container.seek(int(time / video.time_base), stream=video)
        return True
    return False


def _read_to_end(container: Any, video: Any) -> tuple[Fraction, bool, int]:
    clock, tick = clock_of(container), Fraction(video.time_base)
    end: int | None = None
    last = 0
    with suppress(av.FFmpegError):  # a broken file ends where it breaks
        for packet in demux(container, video, clock=clock):
            if packet.pts is None:  # an empty one that has a time says that nothing changes
                continue
            last = max(last, packet.pos + packet.size) if packet.pos is not None else 1 << 62
            stop = packet.pts + (packet.duration or 0)
            if end is None or end < stop <= end + _PAUSE_SECONDS / tick:
                end = stop
    return (end or 0) * tick, clock.jumped, last
