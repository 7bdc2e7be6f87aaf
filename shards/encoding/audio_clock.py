"""When decoded audio is heard, where its clock and its samples do not agree to the millisecond.

A source says a time with every frame of audio, and a frame holds a number of samples. Laid one
after the other, samples stay true to the times as long as nothing is missing and the clock runs at
the sample rate. Their difference, the deviation, tells what else there is:

    ______      none, or what rounding to the clock's ticks makes     samples are laid as they are
    ___---      a step that stays: frames are lost (or are too many)  silence is laid (or cut)
    __..--^^    it grows: the clock runs faster or slower             resampled by as much
    -_^-_-^     it comes and goes: times were taken as data came      resampled to its mean

So no deviation adds up: what is left is below a millisecond, or half a tick of a coarser clock.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

TOLERATED_SECONDS = 0.001
_ROUNDING_TICKS = 1.5  # rounding alone spreads deviations over one tick
_STEP_SECONDS = 0.004  # what stays must be so much, and half of a frame
_STEP_FRAMES = 8  # on both sides of a step, a median of so many tells that it stays
_MEAN_SECONDS = 1.0
_REACH = 16  # samples on each side that one between them is made of
_BLOCK = 1 << 13


@dataclass(frozen=True)
class Piece:
    """A stretch of unbroken audio: samples [first, stop) of those that were decoded.

    anchors, places [K]: samples, and where on the output they belong, both in samples, increasing,
    from the first to the stop; straight lines between them.
    """

    first: int
    stop: int
    anchors: Floats
    places: Floats

    @property
    def is_straight(self) -> bool:
        """Whether the samples are laid as they are."""
        return len(self.anchors) == 1


def pieces(begins: Floats, places: Floats, num_samples: int, rate: int, tick: float) -> list[Piece]:
    """Where a run of decoded frames belongs.

    Args:
        begins: the sample with which each frame begins [F], at the output's rate.
        places: the sample at which each frame is said to be heard [F].
        num_samples: all samples of the run.
        rate: the output's, in Hz.
        tick: seconds that the source's clock counts in.
    """
    deviations = places - begins
    tolerated = max(TOLERATED_SECONDS, _ROUNDING_TICKS * tick) * rate
    limits = [0, *_steps(deviations, np.diff(begins, append=num_samples), rate, tick), len(begins)]
    found = []
    for a, b in itertools.pairwise(limits):
        first = 0 if a == 0 else round(begins[a])
        stop = num_samples if b == len(begins) else round(begins[b])
        at, off = begins[a:b], deviations[a:b]
        if np.ptp(off) > tolerated:
            at, off = _smoothed(at, off, tolerated, rate)
        else:
            at, off = at[:1], off[:1]
        found.append(_piece(first, stop, at, at + off))
    return found


def _steps(deviations: Floats, lengths: Floats, rate: int, tick: float) -> list[int]:
    """Frames at which the deviation is another one from there on."""
    least = np.maximum(max(_STEP_SECONDS, 2 * _ROUNDING_TICKS * tick) * rate, lengths / 2)
    found: list[int] = []
    after = 0
    for n in (np.flatnonzero(np.abs(np.diff(deviations)) >= least[:-1] / 2) + 1).tolist():
        before = deviations[max(after, n - _STEP_FRAMES) : n]
        change = np.median(deviations[n : n + _STEP_FRAMES]) - np.median(before)
        if abs(change) >= least[n - 1]:
            found.append(n)
            after = n
    return found


def _smoothed(at: Floats, off: Floats, tolerated: float, rate: int) -> tuple[Floats, Floats]:
    """Samples and their deviations: those of a steady clock, or of a clock's mean by the second."""
    line = np.polynomial.Polynomial.fit(at, off, 1)
    if np.ptp(off - line(at)) <= tolerated:
        ends = at[[0, -1]]
        return ends, line(ends)
    seconds = ((at - at[0]) // (_MEAN_SECONDS * rate)).astype(np.int64)
    if seconds[-1] > 0 and (seconds == seconds[-1]).sum() < (seconds == 0).sum() / 2:
        seconds[seconds == seconds[-1]] -= 1  # too few for a mean of their own
    groups = [seconds == second for second in np.unique(seconds)]
    return np.array([at[g].mean() for g in groups]), np.array([off[g].mean() for g in groups])


def _piece(first: int, stop: int, anchors: Floats, places: Floats) -> Piece:
    """A piece with straight lines from the outer anchors to its ends."""
    if len(anchors) == 1:
        return Piece(first, stop, anchors, places)
    slopes = np.diff(places)[[0, -1]] / np.diff(anchors)[[0, -1]]
    before = places[0] + slopes[0] * (first - anchors[0])
    behind = places[-1] + slopes[1] * (stop - anchors[-1])
    return Piece(
        first,
        stop,
        np.array([first - 1e-3, *anchors, stop + 1e-3]),
        np.array([before - 1e-3, *places, behind + 1e-3]),
    )


def laid(
    samples: npt.NDArray[np.int16], piece: Piece, length: int
) -> tuple[int, npt.NDArray[np.int16]]:
    """A piece of the decoded samples [C, S] as it is heard: its first place, and samples [C, N].

    Only what lies in places [0, length) is made.
    """
    if piece.is_straight:
        place = round(piece.places[0] - piece.anchors[0] + piece.first)
        first = min(piece.stop, max(piece.first, piece.first - place))
        stop = max(first, min(piece.stop, piece.first + length - place))
        return max(place, 0), samples[:, first:stop]
    begin, end = round(piece.places[0]), round(piece.places[-1])
    wanted = np.arange(max(0, begin), max(0, begin, min(length, end)))
    at = np.interp(wanted, piece.places, piece.anchors) - piece.first
    return max(0, begin), _between(samples[:, piece.first : piece.stop], at)


def _between(samples: npt.NDArray[np.int16], at: Floats) -> npt.NDArray[np.int16]:
    """What samples [C, S] say of places between them [N]: a sinc, windowed to 32 of them."""
    padded = np.pad(samples.astype(np.float64), ((0, 0), (_REACH, _REACH)))
    taps = np.arange(-_REACH + 1, _REACH + 1)
    made = np.empty((len(samples), len(at)), np.int16)
    for block in range(0, len(at), _BLOCK):
        here = at[block : block + _BLOCK]
        whole = np.floor(here).astype(np.int64)
        away = taps - (here - whole)[:, None]  # [n, taps]
        weights = np.sinc(away) * np.cos(np.pi / 2 * away / _REACH) ** 2
        weights /= weights.sum(1, keepdims=True)
        near = np.clip(whole[:, None] + taps + _REACH, 0, padded.shape[1] - 1)
        values = np.einsum("cnt,nt->cn", padded[:, near], weights)
        made[:, block : block + _BLOCK] = np.clip(np.rint(values), -32768, 32767)
    return made
