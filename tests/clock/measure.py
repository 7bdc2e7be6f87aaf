"""Ask a reader for one second of a test video, and read off how far from it the answer is.

The error of a frame is how far the asked instant lies outside the time for which the author has
that frame on screen; the error of sound is the asked instant less the one that is heard. Both are
in seconds of the author's clock.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shards import BuildOptions, Dataset, Manifest
from shards.building.build import build
from shards.format.writer import ShardWriter
from shards.media.demux import demux_tracks
from tests.clock.corpus import CORPUS, SECONDS, Variant
from tests.clock.readable_clock import HEIGHT, WIDTH, UnreadableClockError, read_audio, read_picture

NUM_FRAMES, SAMPLE_RATE_HZ = 30, 24_000
_WINDOW, _NUM_WINDOWS = SAMPLE_RATE_HZ // 20, 7
_ECHO_SECONDS = 0.03  # codecs smear the beginning of a sound
CLIP_SECONDS = 1.2

#: Luma [T, H, W] and sound [S] of the second that begins at a time of the container's clock.
Answer = tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]
Reader = Callable[[float], Answer]


@dataclass(frozen=True)
class Errors:
    """The largest errors in seconds, of what could be read; NaN where nothing could.

    `whole`: every picture and all the sound that was asked for came out and was the clip's.
    """

    video_seconds: float
    audio_seconds: float
    whole: bool = True

    @classmethod
    def largest(cls, errors: Iterable["Errors"]) -> "Errors":
        """The largest of each kind."""
        each = list(errors)
        return cls(
            _largest([e.video_seconds for e in each]),
            _largest([e.audio_seconds for e in each]),
            all(e.whole for e in each),
        )


def _largest(errors: Sequence[float]) -> float:
    return max((e for e in errors if not math.isnan(e)), default=math.nan)


def starts_of(variant: Variant) -> list[float]:
    """When to begin, on the author's clock: at the first and the last moment, and between."""
    times = variant.frame_times()
    first = max(variant.cut_seconds, variant.video_start, variant.audio_start)
    last = float(times[-1]) + 0.01 - 1.0
    return [first, first + 0.0333, first + 0.5, first + 1.234, last]


def errors_of(variant: Variant, start: float, answer: Answer) -> Errors:
    """The errors of an answer for the second that begins at `start` on the author's clock."""
    luma, audio = answer
    video_errors = [] if luma is None else list(_video_errors(variant, start, luma))
    audio_errors = [] if audio is None else list(_audio_errors(variant, start, audio))
    nothing_missing = len(video_errors) == NUM_FRAMES and audio is not None
    readable = not np.isnan(video_errors + audio_errors).any()
    return Errors(_largest(video_errors), _largest(audio_errors), nothing_missing and readable)


def _video_errors(variant: Variant, start: float, luma: NDArray[np.uint8]) -> Iterator[float]:
    times = np.array([float(t) for t in variant.frame_times()])
    stops = np.append(times[1:], max(float(SECONDS), times[-1]))
    for number, picture in enumerate(luma):
        try:
            shown = int(np.abs(times - read_picture(picture)).argmin())
        except UnreadableClockError:
            yield math.nan
            continue
        asked = start + (number + 0.5) / NUM_FRAMES
        error = max(times[shown] - asked, asked - stops[shown])
        yield error if error > 1e-9 else 0.0


def _audio_errors(variant: Variant, start: float, audio: NDArray[np.float32]) -> Iterator[float]:
    for first in np.linspace(0, SAMPLE_RATE_HZ - _WINDOW, _NUM_WINDOWS).astype(int).tolist():
        window = audio[first : first + _WINDOW]
        begin, end = (start + n / SAMPLE_RATE_HZ for n in (first, first + _WINDOW))
        if end < variant.audio_start - _ECHO_SECONDS:
            silent = len(window) == _WINDOW and np.abs(window).max() < 0.02
            yield 0.0 if silent else math.nan
        elif begin >= variant.audio_start and end <= SECONDS:
            try:
                yield abs(read_audio(window, SAMPLE_RATE_HZ, near=begin) - begin)
            except UnreadableClockError:
                yield math.nan


def ask(variant: Variant, reader: Reader) -> Errors:
    """The largest errors over all starts."""
    return Errors.largest(
        errors_of(variant, start, reader(start - variant.offset)) for start in starts_of(variant)
    )


def answer_of(segment: Any) -> Answer:
    """A segment of ours as an answer."""
    luma = None
    if segment.video is not None:
        size = segment.height * segment.width
        luma = segment.video[:, :size].reshape(-1, segment.height, segment.width)
    return luma, segment.audio


def index_unprepared(
    folder: Path, paths: dict[str, Path], variants: Sequence[Variant] = CORPUS
) -> Dataset:
    """A tar of the videos as they are, and its index; sample i is variant i."""
    folder.mkdir()
    with ShardWriter(folder / "videos.tar") as writer:
        for variant in variants:
            data = paths[variant.name].read_bytes()
            tracks = demux_tracks(data, variant.container)
            writer.add(variant.name.replace(".", "_"), {variant.container: data}, tracks)
        entry = writer.finish()
    Manifest((entry,)).write(folder)
    return Dataset.open(folder)


def build_shards(folder: Path, sources: Path) -> Dataset:
    """Shards of the videos as `gdt shards build` makes them, every clip decoded from a seek."""
    options = BuildOptions(
        clip_seconds=CLIP_SECONDS, size=(WIDTH, HEIGHT), seconds_per_unit=CLIP_SECONDS
    )
    build([sources], folder, options)
    return Dataset.open(folder)


def clip_start(variant: Variant, metadata: dict[str, Any]) -> float:
    """When a clip of built shards begins, on the author's clock."""
    first_picture = max(variant.cut_seconds, variant.video_start)
    return first_picture + float(metadata["start_seconds"])
