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

from shards.media.aspect_ratios import AspectRatios
from shards.media.channel_order import reordered, settle_order
from shards.media.container import describe, open_container
from shards.media.streams import DEFAULT, audio_stream, demux, video_stream
from shards.options import TrackChoice

SEEK_MARGIN_SECONDS = 2  # audio may lie this much before its video in a file; where it does not
EARLY_AUDIO_SECONDS = (15, 60)  # begin by the start then, it may lie so much before
INTERLEAVE_SECONDS = 60  # and at most this much after
STILL_COMING_SECONDS = 5  # audio packets up to here say that there are more
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
    says of which kind, `has_audio` whether there is an audio track, `audio_is_too_late` whether
    some of it lies further behind its video than INTERLEAVE_SECONDS. `still_until` is up to when
    the source says that the last frame stays.
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
        tracks: TrackChoice = DEFAULT,
    ) -> None:
        self.damage: list[tuple[Fraction, Fraction]] = []
        self.notes: list[str] = []
        self.has_audio = self.audio_is_too_late = False
        self.still_until: Fraction | None = None
        self.frame_seconds = Fraction(1, 25)  # nominal time between frames
        self._file, self._origin, self._start, self._stop = file, origin, start, stop
        self._with_audio, self._coded_pictures = with_audio, coded_pictures
        self._seeks, self._tracks = seeks, tracks
        self._margin = SEEK_MARGIN_SECONDS
        self._aspects = AspectRatios()
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
                if self._seeks and self._found_start(container):
                    self._seek(container)
                    yield from self._without_first_audio(self._decoded(container, 0))
                    return
            found = self._find_keyframe()
            if found is None:
                return
            first = found
        with open_container(self._file) as container:
            yield from self._decoded(container, first)

    def aspect_ratio(self, time: Fraction) -> Fraction | None:
        """Width over height of the pixels of the frame that begins at `time`; None where unsaid."""
        return self._aspects.at(time)

    def _found_start(self, container: Any) -> bool:
        """Seek to where video, and audio if it can be, begin by the start."""
        for self._margin in (SEEK_MARGIN_SECONDS, *EARLY_AUDIO_SECONDS):
            if not self._seek(container):
                return False
            video_begins, audio_begins = self._first_times(container)
            if video_begins is None or video_begins > self._start:
                return False
            if audio_begins is None or audio_begins <= self._start:
                return True
        self._margin = SEEK_MARGIN_SECONDS  # it begins later, or has a hole
        return self._start > EARLY_AUDIO_SECONDS[-1]  # or lies before all that a seek finds

    def _seek(self, container: Any) -> bool:
        video = video_stream(container, self._tracks)
        wanted = self._start - self._margin + self._origin
        try:
            container.seek(int(wanted / video.time_base), stream=video)
        except av.FFmpegError:
            return False
        return True

    def _first_times(self, container: Any) -> tuple[Fraction | None, Fraction | None]:
        """When the first keyframe and the first audio from here on begin.

        The audio's is None where there is none to wait for: no track, or none near the start.
        """
        video = video_stream(container, self._tracks)
        audio = audio_stream(container, self._tracks) if self._with_audio else None
        first: dict[int, Fraction] = {}
        with suppress(av.FFmpegError):
            for packet in demux(container, *(s for s in (video, audio) if s is not None)):
                if packet.pts is None:
                    continue
                index, time = packet.stream_index, self._time(packet)
                if index != video.index or packet.is_keyframe:
                    first.setdefault(index, time)
                if video.index in first and (audio is None or audio.index in first):
                    break
                if index == video.index and time > self._start + INTERLEAVE_SECONDS:
                    break
        return first.get(video.index), first.get(audio.index) if audio is not None else None

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
            video = video_stream(container, self._tracks)
            for number, packet in enumerate(demux(container, video)):
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
        video = video_stream(container, self._tracks)
        audio = audio_stream(container, self._tracks) if self._with_audio else None
        self.has_audio = audio is not None
        if audio is not None:
            self._channel_order = settle_order(audio.codec_context)
        self._aspects = AspectRatios(video)
        if video.average_rate:
            self.frame_seconds = 1 / Fraction(video.average_rate)
        video_done, audio_done = False, audio is None
        video_packets = 0
        here = heard = self._start  # the last video packet's time, and that beside the last audio
        for packet in self._packets(container, [s for s in (video, audio) if s is not None]):
            is_video = packet.stream.index == video.index
            if is_video:
                video_packets += 1
                if video_packets <= first_video_packet:
                    continue
                if packet.dts is not None:
                    here = packet.dts * packet.time_base - self._origin
                if video_done and not audio_done and here > self._stop + INTERLEAVE_SECONDS:
                    audio_done = True
                    self.audio_is_too_late = heard > here - STILL_COMING_SECONDS
            else:
                heard = here
            if (is_video and video_done) or (not is_video and audio_done):
                if video_done and audio_done:
                    break
                continue
            if is_video and self._is_empty(packet):
                video_done = self._time(packet) >= self._stop
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

    def _is_empty(self, packet: Any) -> bool:
        """Whether a packet only says that the frame before it stays (Theora, AVI)."""
        if packet.size or packet.pts is None:
            return False
        if not self._coded_pictures:
            length = (packet.duration or 0) * packet.time_base or self.frame_seconds
            self.still_until = max(self.still_until or self._start, self._time(packet) + length)
        return True

    def _decode(self, packet: Any, is_video: bool) -> list[Decoded]:
        if is_video and self._coded_pictures:
            has_picture = packet.size and packet.pts is not None  # the flush has none
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
        if is_video:
            self._aspects.sent(packet)
        decoded = []
        for frame in frames:
            if frame.pts is None:
                continue
            time = frame.pts * frame.time_base - self._origin
            if is_video:
                self._aspects.came(frame, time)
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

    def _time(self, packet: Any) -> Fraction:
        return Fraction(packet.pts * packet.time_base) - self._origin

    def _note(self, text: str) -> None:
        if len(self.notes) < MAX_NOTES:
            self.notes.append(text)
