"""Playback speed, the factor `speed`: what a row of each speed covers, and how it sounds.

A row of speed s covers s times the segment's seconds with the segment's number of frames and of
audio samples. So its sound is what a player makes of it: s times as fast and s times as high, which
is the speed perturbation of Ko et al., "Audio Augmentation for Speech Recognition", Interspeech
2015, and `speed` (not `tempo`) in SoX. All speeds of one time shift start at the same moment, and a
clip is long enough if it holds the fastest.

Legend: K starts, V speeds, K·V rows: the speeds of the first start, then of the second.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from gdt.plan import Plan

__all__ = [
    "NORMAL_SPEED",
    "repeat_starts",
    "row_speeds",
    "source_rate_hz",
    "speeds_of",
]

#: What evaluation plays, and a plan without the factor.
NORMAL_SPEED = (1.0,)


def speeds_of(plan: Plan) -> tuple[float, ...]:
    """The speeds [V] that a plan draws, in the order of their codes."""
    factor = plan.factor("speed")
    return NORMAL_SPEED if factor is None else tuple(float(value) for value in factor.values)


def repeat_starts(starts: NDArray[np.float64], speeds: tuple[float, ...]) -> NDArray[np.float64]:
    """Where each row starts [K·V], from `starts` [K]."""
    return starts.repeat(len(speeds))


def row_speeds(num_rows: int, speeds: tuple[float, ...]) -> NDArray[np.float64]:
    """The speed of each of K·V rows."""
    return np.tile(np.array(speeds), num_rows // len(speeds))


def source_rate_hz(sample_rate_hz: int, speed: float) -> Fraction:
    """Samples that a row takes of a second of its clip: fewer, the faster it plays.

    Speeds are what they look like, 1.1 is 11 / 10, so that resampling has a ratio of small numbers.
    """
    return sample_rate_hz / Fraction(str(speed))
