"""What a clip can be required to have, beside an audio track: audible audio, video that moves.

Both are measured on what is written: the clip's samples, and the luma of its fitted frames.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.media.frame_fitting import luma_of

SILENT_DBFS = -60.0  # the default of FFmpeg's `silencedetect`, here for the mean over a clip
STILL_CHANGE = 0.001 * 255  # levels of luma: the default of FFmpeg's `freezedetect`
STEP_SECONDS = Fraction(1, 2)


def is_silent(samples: npt.NDArray[np.int16]) -> bool:
    """Whether the root mean square of 16-bit samples is below -60 dB of full scale."""
    power = float(np.square(samples, dtype=np.float64).mean()) if samples.size else 0.0
    return power < (32768 * 10 ** (SILENT_DBFS / 20)) ** 2


class MotionMeter:
    """Watch the frames of one clip, one after the other.

    From one frame to the one half a second later, luma changes by some mean absolute difference.
    Where the median of these changes is below 0.1 % of full scale, the clip is static: for at least
    half of it, nothing moves. A still photograph is, whatever its codec adds at keyframes.

    Args:
        num_frames: frames in the clip.
        frame_rate: frames a second.
    """

    def __init__(self, num_frames: int, frame_rate: Fraction) -> None:
        self._step = max(1, min(round(frame_rate * STEP_SECONDS), num_frames - 1))
        self._seen = 0
        self._last: npt.NDArray[np.int16] | None = None
        self._changes: list[float] = []

    def see(self, frame: Any) -> None:
        """Take the clip's next frame, 8-bit planar YUV."""
        if self._seen % self._step == 0:
            luma = luma_of(frame).astype(np.int16)
            if self._last is not None:
                self._changes.append(float(np.abs(luma - self._last).mean()))
            self._last = luma
        self._seen += 1

    @property
    def is_static(self) -> bool:
        """Whether the frames seen so far hardly change."""
        return not self._changes or float(np.median(self._changes)) < STILL_CHANGE
