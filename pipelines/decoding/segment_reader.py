"""Decode segments of a data set's clips: choose the backend, read, fill arrays.

All segments of one clip are decoded in one visit. What is wrong with a sample is a skip that names
it; what does not go with the options is an error that says what to set.

Legend: K starts, V speeds, R = K·V rows, T frames, H W luma size, S audio samples.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import FrameRequest, Read
from pipelines.decoding.backends.feed import Feed, feed_of
from pipelines.decoding.data_set_decoder import decoder_for
from pipelines.decoding.drawn_captions import drawn_captions
from pipelines.decoding.faults import sample_faults, skip_of
from pipelines.decoding.resample import read_audio
from pipelines.decoding.segment import Segment, SegmentOptions, byte_ranges, frames_on_screen
from pipelines.decoding.speed import NORMAL_SPEED, repeat_starts, row_speeds, source_rate_hz
from pipelines.decoding.tracks import check_form, common_span, track_of
from pipelines.sampling.time_shifts import room_needed, spread
from pipelines.skips import SkipError
from shards import IndexedSample, Samples, Track

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
        chosen = decoder_for(dataset, options, video=video, isolated=isolated)
        self.decoder, self.decoder_reason = chosen.name, chosen.reason
        self.backend, self._form = chosen.backend, chosen.form
        self.width, self.height = chosen.form.width, chosen.form.height
        self.color_matrix, self.color_range = chosen.form.color_matrix, chosen.form.color_range

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
        kinds = [kind for kind in ("video", "audio") if getattr(self, kind)]
        # Half an audio sample short is not short: clocks of the two tracks round differently.
        least = self.longest_seconds - 0.5 / self.options.sample_rate_hz
        return common_span(sample, kinds, least, self._length) or (0.0, self.longest_seconds)

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
                track = self._video_of(sample)
                wanted = frames_on_screen(track, starts, self.options, speeds).ravel()
                request = FrameRequest(read, track, wanted, self.height, self.width)
                self.backend.frames(request, frames.reshape(-1, self.frame_bytes))
            if audio is not None:
                track = track_of(sample, "audio")
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
        return drawn_captions(self.dataset, index, place, self.options, self.least_captions)

    def feed(self, sample: IndexedSample, starts: NDArray[np.float64]) -> Feed:
        """The video of the rows at `starts` [R], still coded, for a decoder of batches.

        Raises:
            SkipError: this sample cannot be had.
        """
        with sample_faults(sample):
            track = self._video_of(sample)
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
        tracks = [track_of(sample, kind) for kind in ("video", "audio") if kind in kinds]
        speeds = None if self.speeds == NORMAL_SPEED else row_speeds(len(starts), self.speeds)
        ranges = [r for track in tracks for r in byte_ranges(track, starts, self.options, speeds)]
        return self.dataset.reader(sample, ranges)

    @property
    def _length(self) -> str:
        speed = "" if self.speeds == NORMAL_SPEED else f" at speed {max(self.speeds):g}"
        return f"{self.longest_seconds:.3f} s{speed}"

    def _video_of(self, sample: IndexedSample) -> Track:
        """Its video track, of the form of all others."""
        track, scales = track_of(sample, "video"), self.options.frame_size is not None
        check_form(sample, track, self._form, scales=scales, converts=self.decoder == "av")
        return track
