"""Decode one stretch of a source: video and audio with their times, and where both are damaged.

Times are seconds since the source's first frame (`origin` on the container's own clock), as the
container's edit lists and start times place them. The reader seeks to a keyframe before the
stretch; where a container cannot seek, or has a clock that jumps, it looks for it packet by packet,
without decoding.
"""

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any, BinaryIO, NamedTuple

import av

from shards.media.channel_order import reordered, settle_order
from shards.media.container import describe, open_container
from shards.media.streams import audio_stream, demux, video_stream

SEEK_MARGIN_SECONDS = 2  # audio may lie this much before its video in a file
INTERLEAVE_SECONDS = 10  # and at most this much after
REORDER_SECONDS = Fraction(1, 2)  # frames may be damaged by one that is shown this much later
MAX_NOTES = 20


class Decoded(NamedTuple):
    """One decoded frame, of video or of audio (or a packet of frames), and when it starts."""

    is_video: bool
    frame: Any
    time: Fraction


class SourceReader:
    """Read [start, stop) seconds of a source, and a little more on both sides.

    Unless the source `seeks`, it is read from its beginning. With `coded_pictures`, frames are
    handed over as packets, in file order, and none is decoded.

    After `frames` has run: `damage` lists the time ranges in which a decoder met errors, `notes`
    says of which kind, `has_audio` whether there is an audio track.
    """

    def __init__(
        self,
        file: BinaryIO,
        origin: Fraction,
        start: Fraction,
        stop: Fraction,
        with_audio: bool,
        coded_pictures: bool = False,
        seeks: bool = True,
    ) -> None:
        self.damage: list[tuple[Fraction, Fraction]] = []
        self.notes: list[str] = []
        self.has_audio = False
        self.sample_aspect_ratio: Fraction | None = None
        self.frame_seconds = Fraction(1, 25)  # nominal time between frames
        self._file, self._origin, self._start, self._stop = file, origin, start, stop
        self._with_audio, self._coded_pictures = with_audio, coded_pictures
        self._seeks = seeks
        self._broken_since: Fraction | None = None
        self._channel_order: tuple[int, ...] | None = None

    def frames(self) -> Iterator[Decoded]:
        """Decoded frames of both kinds in file order, each kind in the order of time.

        Raises:
            SourceError: the source cannot be opened.
        """
        first = 0
        if self._start > SEEK_MARGIN_SECONDS:
            with open_container(self._file) as container:
                if self._seeks and self._seek(container) and self._starts_in_time(container):
                    self._seek(container)
                    yield from self._without_first_audio(self._decoded(container, 0))
                    return
            found = self._find_keyframe()
            if found is None:
                return
            first = found
        with open_container(self._file) as container:
            yield from self._decoded(container, first)

    def _seek(self, container: Any) -> bool:
        video = video_stream(container)
        wanted = self._start - SEEK_MARGIN_SECONDS + self._origin
        try:
            container.seek(int(wanted / video.time_base), stream=video)
        except av.FFmpegError:
            return False
        return True

    def _starts_in_time(self, container: Any) -> bool:
        """Whether the packets from here on begin with a keyframe that is shown by the start."""
        video = video_stream(container)
        with suppress(av.FFmpegError):
            for packet in demux(container, video):
                if packet.is_keyframe and packet.pts is not None:
                    return bool(self._time(packet) <= self._start)
        return False

    def _without_first_audio(self, items: Iterator[Decoded]) -> Iterator[Decoded]:
        """Leave out what an audio decoder gives first after a seek.

        It lacks the frame before (AAC), or is cut short as if the source began there (Opus), and
        its time is off by as much.
        """
        first = True
        for item in items:
            if first and not item.is_video:
                first = False
                if item.time < self._start:
                    continue
            yield item

    def _find_keyframe(self) -> int | None:
        """The number of the video packet to decode from; None where the source ends before that."""
        found = None
        with open_container(self._file) as container, suppress(av.FFmpegError):
            for number, packet in enumerate(demux(container, video_stream(container))):
                if packet.pts is None:
                    continue
                time = self._time(packet)
                if packet.is_keyframe and (
                    found is None or time <= self._start - SEEK_MARGIN_SECONDS
                ):
                    found = number
                if time >= self._start:
                    return found
        return None

    def _decoded(self, container: Any, first_video_packet: int) -> Iterator[Decoded]:
        video = video_stream(container)
        audio = audio_stream(container) if self._with_audio else None
        self.has_audio = audio is not None
        if audio is not None:
            self._channel_order = settle_order(audio.codec_context)
        self.sample_aspect_ratio = video.sample_aspect_ratio
        if video.average_rate:
            self.frame_seconds = 1 / Fraction(video.average_rate)
        video_done, audio_done = False, audio is None
        video_packets = 0
        for packet in self._packets(container, [s for s in (video, audio) if s is not None]):
            is_video = packet.stream.index == video.index
            if is_video:
                video_packets += 1
                if video_packets <= first_video_packet:
                    continue
                audio_done = audio_done or (video_done and self._well_past_stop(packet))
            if (is_video and video_done) or (not is_video and audio_done):
                if video_done and audio_done:
                    break
                continue
            for item in self._decode(packet, is_video):
                yield item
                if is_video:
                    video_done = item.time >= self._stop
                else:
                    length = Fraction(item.frame.samples, item.frame.sample_rate)
                    audio_done = item.time + length >= self._stop
        if self._broken_since is not None:
            self.damage.append((self._broken_since, max(self._stop, self._broken_since)))

    def _packets(self, container: Any, streams: list[Any]) -> Iterator[Any]:
        """The packets of all streams, then an empty one for each; a broken file just ends."""
        try:
            yield from demux(container, *streams)
        except av.FFmpegError as error:
            self._note(f"reading stopped: {describe(error)}")

    def _decode(self, packet: Any, is_video: bool) -> list[Decoded]:
        if is_video and self._coded_pictures:
            has_picture = packet.size and packet.pts is not None
            return [Decoded(True, packet, self._time(packet))] if has_picture else []
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if packet.pts is not None:
                time = self._time(packet)
                self._note(f"{packet.stream.type} at {float(time):.3f} s: {describe(error)}")
                if is_video:
                    self._break_at(time)
                else:
                    self.damage.append((time, time + Fraction(1, 10)))
            return []
        decoded = []
        for frame in frames:
            if frame.pts is None:
                continue
            time = frame.pts * frame.time_base - self._origin
            if is_video:
                self._watch(frame, time)
            elif self._channel_order is not None:
                frame = reordered(frame, self._channel_order)
            decoded.append(Decoded(is_video, frame, time))
        return decoded

    def _watch(self, frame: Any, time: Fraction) -> None:
        """Damage lasts from the frame in which it is met to the next clean keyframe."""
        if frame.is_corrupt:
            if self._broken_since is None:
                self._note(f"video at {float(time):.3f} s: a damaged frame")
            self._break_at(time)
        elif frame.key_frame and self._broken_since is not None:
            self.damage.append((self._broken_since, max(time, self._broken_since)))
            self._broken_since = None

    def _break_at(self, time: Fraction) -> None:
        if self._broken_since is None:
            self._broken_since = time - REORDER_SECONDS

    def _well_past_stop(self, packet: Any) -> bool:
        if packet.dts is None:
            return False
        time = packet.dts * packet.time_base - self._origin
        return bool(time > self._stop + INTERLEAVE_SECONDS)

    def _time(self, packet: Any) -> Fraction:
        return Fraction(packet.pts * packet.time_base) - self._origin

    def _note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)
