"""Where the segments of one clip start: uniform, and where a plan asks for it, a distance apart.

K draws u_k in [0, 1) are places in what the clip allows. A least distance d takes (K − 1) · d of
that room away; the draws are uniform in what is left, and each is moved on by d for every draw
before it:

    start_k = u_k · (room − (K − 1) · d) + d · #{l : u_l < u_k}

For each order of the draws this is a shift of the same simplex, so that all starts which are d
apart are equally likely, and no draw is tried twice. Without a distance, start_k = u_k · room.
"""

from math import comb

import numpy as np
from numpy.typing import NDArray

__all__ = ["overlapping_share", "room_needed", "spread"]


def room_needed(draws: int, seconds_apart: float) -> float:
    """Seconds from the first to the last possible start, at least."""
    return (draws - 1) * seconds_apart


def spread(
    places: NDArray[np.float64], room: float, seconds_apart: float = 0.0
) -> NDArray[np.float64]:
    """Starts [K] in [0, room], `seconds_apart` from each other, for draws `places` [K] in [0, 1].

    Args:
        places: uniform and independent.
        room: seconds from the first to the last possible start, at least `room_needed`.
        seconds_apart: d.
    """
    ranks = np.argsort(np.argsort(places, kind="stable"))
    free = max(0.0, room - room_needed(len(places), seconds_apart))
    return np.asarray(places * free + ranks * seconds_apart)


def overlapping_share(seconds: float, room: float, draws: int, seconds_apart: float = 0.0) -> float:
    """The probability that two of a clip's segments overlap, exactly.

    The m-th next of K uniform draws is Beta(m, K − m + 1) away, of which the distribution is a sum
    of binomial terms.

    Args:
        seconds: of a segment.
        room: seconds from the first to the last possible start.
        draws: K, at least 2.
        seconds_apart: see `spread`.
    """
    free = room - room_needed(draws, seconds_apart)
    share = 0.0
    for steps in range(1, draws):
        slack = seconds - steps * seconds_apart
        if slack <= 0:
            break
        x = 1.0 if slack >= free else slack / free
        nearer = sum(
            comb(draws, n) * x**n * (1 - x) ** (draws - n) for n in range(steps, draws + 1)
        )
        share += (draws - steps) * nearer
    return share / comb(draws, 2)
