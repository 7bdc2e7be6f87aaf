"""Decode segments of a data set's clips: choose the backend, read, fill arrays.

All segments of one clip are decoded in one visit. What is wrong with a sample is a skip that names
it; what does not go with the options is an error that says what to set.

Legend: K starts, V speeds, R = K·V rows, T frames, H W luma size, S audio samples.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import (
    Backend,
    FrameRequest,
    PartialBackend,
    Read,
)
from pipelines.decoding.backends.choice import AUTO, choose_decoder, make_backend
from pipelines.decoding.backends.feed import Feed, feed_of
from pipelines.decoding.faults import sample_faults, skip_of
from pipelines.decoding.frame_format import frame_format
from pipelines.decoding.resample import read_audio
from pipelines.decoding.segment import Segment, SegmentOptions, byte_ranges, frames_on_screen
from pipelines.decoding.speed import (
    NORMAL_SPEED,
    repeat_starts,
    row_speeds,
    source_rate_hz,
)
from pipelines.sampling.mixture import Mixture
from pipelines.sampling.time_shifts import room_needed, spread
from pipelines.skips import MismatchError, SkipError
from shards import IndexedSample, Samples, Track
from shards.plural import plural
from shards.reading.captions import captions_of

__all__ = ["SegmentReader"]


class SegmentReader:
    """Decoder of segments of a data set's clips. Safe to use from several threads.

    Args:
        dataset: indexed shards.
        options: length, frames, rate.
        video: whether video (or images) is wanted.
        audio: whether audio is wanted.
        text: whether captions are wanted.
        least_captions: how many a clip needs where they are taken in order.
        speeds: [V], at each of which every segment is played; see speed.py.
        isolated: processes of their own will decode; "auto" is then a decoder for that.
        seconds_apart: least distance between the starts of a clip's segments that are drawn.

    Attributes:
        decoder: name of the backend that is used.
        decoder_reason: why it is that one.

    Raises:
        ImportError: the decoder's library is missing.
        ValueError: neither is wanted, or no frame is found to take their form from.
    """

    def __init__(
        self,
        dataset: Samples,
        options: SegmentOptions,
        *,
        video: bool = True,
        audio: bool = True,
        text: bool = False,
        least_captions: int = 1,
        speeds: tuple[float, ...] = NORMAL_SPEED,
        isolated: bool = False,
        seconds_apart: float = 0.0,
    ) -> None:
        if not (video or audio or text):
            raise ValueError("a segment without video, audio and text holds nothing")
        self.seconds_apart = seconds_apart
        self.dataset, self.options, self.video, self.audio = dataset, options, video, audio
        self.text, self.least_captions, self.speeds = text, least_captions, speeds
        if isolated and options.decoder == AUTO:
            self.decoder, self.decoder_reason = "av", "data.isolate needs frames on the CPU"
        else:
            self.decoder, self.decoder_reason = choose_decoder(options.decoder)
        self.width, self.height = options.frame_size or (0, 0)
        self.color_matrix, self.color_range = "bt709", "limited"
        if video:
            parts = dataset.data_sets if isinstance(dataset, Mixture) else {}
            converts = self.decoder == "av"
            form = frame_format(dataset, parts, options.frame_size, converts=converts)
            self.width, self.height = form.width, form.height
            self.color_matrix, self.color_range = form.color_matrix, form.color_range
        if video and form.is_still and self.decoder != "av":
            if options.decoder != AUTO:
                raise ValueError(
                    f"decoder = {options.decoder!r} decodes video, and {dataset.path} holds still "
                    "images: use 'av' or 'auto'"
                )
            self.decoder, self.decoder_reason = "av", "it is the one that decodes still images"
        self.backend: Backend = self._backend()
        if video and options.decoder == AUTO and (cause := self._refusal()):
            self.decoder, self.decoder_reason = "av", f"there is a GPU, but not for this: {cause}"
            self.backend = self._backend()

    def _backend(self) -> Backend:
        colors = (self.color_matrix, self.color_range)
        return make_backend(self.decoder, self.options.fallback, colors)

    def _refusal(self) -> str | None:
        """Why the backend would leave all video to another one, as the first frames tell it."""
        if not isinstance(self.backend, PartialBackend):
            return None
        sample = next(s for s in map(self.dataset.sample, count()) if s.video is not None)
        with suppress(SkipError), sample_faults(sample):
            read, track = partial(self.dataset.read, sample), _track(sample, "video")
            keyframe = np.flatnonzero(track.packets.keyframe)[:1]
            request = FrameRequest(read, track, keyframe, self.height, self.width)
            return self.backend.refusal(request)
        return None

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, H·W·3/2."""
        return self.height * self.width * 3 // 2

    @property
    def longest_seconds(self) -> float:
        """What a segment covers of its clip at the fastest of its speeds."""
        return self.options.window_seconds * max(self.speeds)

    def span(self, sample: IndexedSample) -> tuple[float, float]:
        """[start, stop) seconds that every wanted track of the sample covers.

        Raises:
            SkipError: a track is missing, or the span is shorter than a segment.
        """
        tracks = [_track(sample, kind) for kind in ("video", "audio") if getattr(self, kind)]
        tracks = [track for track in tracks if not track.is_still]
        if not tracks:
            return 0.0, self.longest_seconds
        start = max(track.start_seconds for track in tracks)
        stop = min(track.stop_seconds for track in tracks)
        # Half an audio sample short is not short: clocks of the two tracks round differently.
        if stop - start < self.longest_seconds - 0.5 / self.options.sample_rate_hz:
            ranges = " and ".join(
                f"{track.kind} [{track.start_seconds:.3f}, {track.stop_seconds:.3f}) s"
                for track in tracks
            )
            raise skip_of(
                sample,
                "cover",
                f"{ranges} have {max(0.0, stop - start):.3f} s in common, and a segment needs "
                f"{self._length}",
            )
        return start, stop

    def room(self, sample: IndexedSample) -> float:
        """Seconds from the first to the last start that the sample allows.

        Raises:
            SkipError: as `span`.
        """
        start, stop = self.span(sample)
        return max(0.0, stop - start - self.longest_seconds)

    def fits(self, room: float, needed: float) -> bool:
        """Whether starts that span `needed` seconds fit; half an audio sample is not missed."""
        return room >= needed - 0.5 / self.options.sample_rate_hz

    def starts(self, sample: IndexedSample, places: NDArray[np.float64]) -> NDArray[np.float64]:
        """Start times [R] for `places` [K] in [0, 1] of all the starts that the sample allows.

        Raises:
            SkipError: as `span`, or there is no room for starts `seconds_apart` from each other.
        """
        (start, stop), room = self.span(sample), self.room(sample)
        needed = room_needed(len(places), self.seconds_apart)
        if not self.fits(room, needed):
            raise skip_of(
                sample,
                "cover",
                f"its tracks have {stop - start:.3f} s in common, and {len(places)} segments of "
                f"{self.longest_seconds:.3f} s whose starts are {self.seconds_apart:g} s apart "
                f"need {needed + self.longest_seconds:.3f} s",
            )
        return repeat_starts(start + spread(places, room, self.seconds_apart), self.speeds)

    def fill(
        self,
        sample: IndexedSample,
        starts: NDArray[np.float64],
        frames: Any,
        audio: NDArray[np.float32] | None,
    ) -> None:
        """Decode the rows at `starts` [R] into frames [R, T, H·W·3/2] and audio [R, S].

        Frames are an array of bytes, or a tensor where the backend's device is not the CPU; what is
        None is not decoded.

        Raises:
            SkipError: this sample cannot be had; names shard, key, stage and cause.
            MismatchError: its frames have another size than the first, and no frame_size is set.
        """
        with sample_faults(sample):
            kinds = [k for k, out in (("video", frames), ("audio", audio)) if out is not None]
            read = self._reader(sample, starts, kinds)
            speeds = row_speeds(len(starts), self.speeds)
            if frames is not None:
                track = _track(sample, "video")
                self._check_size(sample, track)
                wanted = frames_on_screen(track, starts, self.options, speeds).ravel()
                request = FrameRequest(read, track, wanted, self.height, self.width)
                self.backend.frames(request, frames.reshape(-1, self.frame_bytes))
            if audio is not None:
                track = _track(sample, "audio")
                rows = zip(starts.tolist(), speeds.tolist(), audio, strict=True)
                for start, speed, out in rows:
                    rate = source_rate_hz(self.options.sample_rate_hz, speed)
                    begin = start + self.options.lead_seconds("audio") * speed
                    read_audio(self.backend, read, track, begin, rate, out)

    def fill_sample(
        self,
        index: int,
        places: NDArray[np.float64],
        frames: Any,
        audio: NDArray[np.float32] | None,
    ) -> tuple[str, NDArray[np.float64]]:
        """`starts` and `fill` of sample `index`, for `places` [K]: its key and the starts [R].

        Raises:
            SkipError: this sample cannot be had.
            Exception: anything else, with a note that names the sample.
        """
        with self.visit(index, places) as (sample, starts):
            self.fill(sample, starts, frames, audio)
        return sample.key, starts

    @contextmanager
    def visit(
        self, index: int, places: NDArray[np.float64]
    ) -> Iterator[tuple[IndexedSample, NDArray[np.float64]]]:
        """Sample `index` and its `starts`; an error within gets a note that names the sample.

        Raises:
            SkipError: this sample cannot be had.
        """
        key, shard = "?", "?"
        try:
            sample = self.dataset.sample(index)
            key, shard = sample.key, sample.shard
            with sample_faults(sample):
                starts = self.starts(sample, places)
            yield sample, starts
        except SkipError:
            raise
        except Exception as error:
            error.add_note(f"This happened at sample {index}, {key!r} of {shard}.")
            raise

    def captions(self, index: int, place: float) -> tuple[str, ...]:
        """The caption of sample `index` at `place` in [0, 1) of all it has; or all, "in_order".

        Raises:
            SkipError: it has none, or too few, or its metadata cannot be read.
        """
        sample = self.dataset.sample(index)
        with sample_faults(sample):
            captions = captions_of(self.dataset.metadata(index))
        if not captions:
            raise skip_of(
                sample,
                "caption",
                "it has no caption: neither `caption` nor `captions` in its json, nor a .txt",
            )
        if self.options.captions == "one":
            return (captions[int(place * len(captions))],)
        if len(captions) < self.least_captions:
            raise skip_of(
                sample,
                "caption",
                f"it has {plural(len(captions), 'caption')}, and segment.captions = 'in_order' "
                f"takes one for each of {self.least_captions} draws of plan.augmentation",
            )
        return captions

    def feed(self, sample: IndexedSample, starts: NDArray[np.float64]) -> Feed:
        """The video of the rows at `starts` [R], still coded, for a decoder of batches.

        Raises:
            SkipError: this sample cannot be had.
        """
        with sample_faults(sample):
            track = _track(sample, "video")
            self._check_size(sample, track)
            speeds = row_speeds(len(starts), self.speeds)
            wanted = frames_on_screen(track, starts, self.options, speeds)
            read = self._reader(sample, starts, ["video"])
            return feed_of(read, track, wanted.ravel())

    def segments(self, index: int, starts: Sequence[float]) -> list[Segment]:
        """The segments of sample `index` that start at `starts` seconds, each at every speed.

        Raises:
            SkipError: this sample cannot be had.
        """
        sample, options = self.dataset.sample(index), self.options
        first, stop = self.span(sample)
        outside = [
            s for s in starts if not first <= s <= max(first, stop - self.longest_seconds) + 1e-9
        ]
        if outside:
            raise skip_of(
                sample,
                "cover",
                f"a segment of {self._length} from {outside[0]:.3f} s lies outside "
                f"[{first:.3f}, {stop:.3f}) s",
            )
        rows = repeat_starts(np.array(starts, dtype=np.float64), self.speeds)
        speeds = row_speeds(len(rows), self.speeds)
        shape = (len(rows), options.num_frames, self.frame_bytes)
        frames = np.empty(shape, np.uint8) if self.video else None
        decoded: Any = frames
        if frames is not None and self.backend.device != "cpu":
            decoded = torch.empty(shape, dtype=torch.uint8, device=self.backend.device)
        audio = np.empty((len(rows), options.num_samples), np.float32) if self.audio else None
        self.fill(sample, rows, decoded, audio)
        if isinstance(decoded, torch.Tensor):
            frames = decoded.cpu().numpy()
        return [
            Segment(
                video=None if frames is None else frames[k],
                audio=None if audio is None else audio[k],
                start_seconds=start,
                stop_seconds=start + options.window_seconds * speed,
                height=self.height,
                width=self.width,
                color_matrix=self.color_matrix,
                color_range=self.color_range,
                sample_rate_hz=options.sample_rate_hz,
            )
            for k, (start, speed) in enumerate(zip(rows.tolist(), speeds.tolist(), strict=True))
        ]

    def _reader(
        self, sample: IndexedSample, starts: NDArray[np.float64], kinds: Collection[str]
    ) -> Read:
        """Read the sample's bytes; remote ones that the segments need are fetched together."""
        if not self.dataset.is_remote:
            return partial(self.dataset.read, sample)
        tracks = [_track(sample, kind) for kind in ("video", "audio") if kind in kinds]
        speeds = None if self.speeds == NORMAL_SPEED else row_speeds(len(starts), self.speeds)
        ranges = [r for track in tracks for r in byte_ranges(track, starts, self.options, speeds)]
        return self.dataset.reader(sample, ranges)

    @property
    def _length(self) -> str:
        speed = "" if self.speeds == NORMAL_SPEED else f" at speed {max(self.speeds):g}"
        return f"{self.longest_seconds:.3f} s{speed}"

    def _check_size(self, sample: IndexedSample, track: Track) -> None:
        differs = (track.width, track.height) != (self.width, self.height)
        if self.options.frame_size is None and differs and not track.is_still:
            raise MismatchError(
                f"{sample.shard}: sample {sample.key!r} is {track.width}×{track.height}, and the "
                f"first of the data set is {self.width}×{self.height}: set segment.frame_size, "
                "or build the shards with one size"
            )
        converts = self.decoder == "av" and not track.is_still
        theirs, ours = (
            (track.color_matrix, track.color_range),
            (self.color_matrix, self.color_range),
        )
        if theirs != ours and not converts:
            raise skip_of(
                sample,
                "index",
                f"its colours are {track.color_matrix} {track.color_range}, the data set's are "
                f"{self.color_matrix} {self.color_range}: decoder 'av' converts video, and "
                "`gdt shards build` brings all to one",
            )


def _track(sample: IndexedSample, kind: str) -> Track:
    track: Track | None = getattr(sample, kind)
    if track is None and sample.fault:
        raise skip_of(sample, "open", sample.fault)
    if track is None:
        has = ", ".join(f".{extension}" for extension in sample.members)
        raise skip_of(sample, "cover", f"it has no {kind} track (members: {has})")
    return track
