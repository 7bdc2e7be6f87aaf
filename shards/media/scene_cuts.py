"""Find scene cuts: by FFmpeg's scene score, on small frames.

The score is that of FFmpeg's filters `scdet` and `select`: by how much a frame differs from the
one before, in mean absolute luma, and no more than that difference itself grew from one frame to
the next. So motion and fades, which differ as much from frame to frame, are not cuts.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt

from shards.errors import SourceError
from shards.media.container import describe
from shards.media.frame_fitting import FrameFitter, luma_of
from shards.media.orientation import UPRIGHT
from shards.media.source_reader import SourceReader
from shards.media.streams import DEFAULT
from shards.options import TrackChoice

PIXELS = 64 * 36
CUT_SCORE = 10.0  # percent of full scale: the default of `scdet`


@dataclass(frozen=True)
class _Small:
    """A few thousand pixels in the shape of a source's own."""

    width: int
    height: int
    fit: str = "crop"

    @classmethod
    def of(cls, frame: Any) -> "_Small":
        scale = math.sqrt(PIXELS / (frame.width * frame.height))
        width, height = (max(2, 2 * round(s * scale / 2)) for s in (frame.width, frame.height))
        return cls(width, height)


class SceneScore:
    """Score frames in the order they are shown, 0 to 100: is this the first of a scene?"""

    def __init__(self) -> None:
        self._last: npt.NDArray[np.int16] | None = None
        self._difference = 0.0

    def __call__(self, luma: npt.NDArray[np.uint8]) -> float:
        """The score of the next frame [H, W]; 0 for the first."""
        luma_now = luma.astype(np.int16)
        if self._last is None:
            self._last = luma_now
            return 0.0
        difference = float(np.abs(luma_now - self._last).mean()) * 100 / 256
        growth = abs(difference - self._difference)
        self._last, self._difference = luma_now, difference
        return min(difference, growth)


def scene_cuts(
    file: BinaryIO,
    origin: Fraction,
    start: Fraction,
    stop: Fraction,
    seeks: bool = True,
    tracks: TrackChoice = DEFAULT,
) -> tuple[Fraction, ...]:
    """When, in [start, stop) seconds of the source's clock, a scene begins that is not its first.

    Decodes that stretch once, at about 2 ms a frame of 720p; unless the source `seeks`, reads all
    that is before it.

    Raises:
        SourceError: the source cannot be opened, or a frame cannot be scaled.
    """
    score = SceneScore()
    shrink: FrameFitter | None = None
    cuts: list[Fraction] = []
    last: Fraction | None = None
    try:
        reader = SourceReader(
            file, origin, start, stop, with_audio=False, seeks=seeks, tracks=tracks
        )
        for item in reader.frames():
            if item.time >= stop:
                break
            if last is not None and item.time <= last:
                continue
            last = item.time
            shrink = shrink or FrameFitter(_Small.of(item.frame), None)
            luma = luma_of(shrink.fit(item.frame, turn=UPRIGHT))
            if score(luma) >= CUT_SCORE and item.time > start:
                cuts.append(item.time)
    except av.FFmpegError as error:
        raise SourceError("probe", "a frame cannot be scaled", describe(error)) from error
    return tuple(cuts)
