"""Draw every random number of the pipeline as a hash of what it is for: no generator has state.

`uniform(seed, epoch, sample, "time_shift", k)` is the same number on every machine, rank and
thread, in whatever order numbers are asked for. So a resumed run draws what the unbroken run drew,
and nothing has to be stored for it.

Each word is mixed into the state by one step of splitmix64 (Steele, Lea, Flood: Fast Splittable
Pseudorandom Number Generators, OOPSLA 2014). Vectorised: some 50 µs a call, 0.1 µs a number.
"""

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

__all__ = ["Integers", "bits", "integers", "splitmix64", "uniform"]

Integers = int | np.integer | NDArray[np.integer]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output of splitmix64 whose state before the step is `state` (any shape)."""
    with np.errstate(over="ignore"):  # numpy warns of wrapping for 0-d arrays only
        z = state + _GAMMA
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
        return z ^ (z >> np.uint64(31))


@lru_cache(maxsize=256)
def _word_of(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little"))


def bits(
    seed: int, epoch: Integers, sample: Integers, name: str, *draws: Integers
) -> NDArray[np.uint64]:
    """64 random bits for each element of the broadcast of `epoch`, `sample` and `draws`.

    Args:
        seed: of the run, not negative.
        epoch: of the sample's data set, not negative, one or an array.
        sample: index of the sample in the data set, one or an array.
        name: what the number is for ("time_shift", "video.crop_x", …): a stream of its own.
        draws: further counters: the number of the draw, the row's codes.
    """
    state = splitmix64(np.asarray(seed, dtype=np.uint64))
    for word in (_word_of(name), epoch, sample, *draws):
        state = splitmix64(state ^ np.asarray(word).astype(np.uint64))
    return state


def uniform(
    seed: int, epoch: Integers, sample: Integers, name: str, *draws: Integers
) -> NDArray[np.float64]:
    """Uniform float64 in [0, 1), 53 random bits each; arguments as for `bits`."""
    high = bits(seed, epoch, sample, name, *draws) >> np.uint64(11)
    return np.asarray(high * 2.0**-53, dtype=np.float64)


def integers(
    stop: Integers, seed: int, epoch: Integers, sample: Integers, name: str, *draws: Integers
) -> NDArray[np.int64]:
    """Uniform int64 in [0, stop); `stop` may be an array. Below 2**32 the bias is under 2**-21."""
    return np.floor(uniform(seed, epoch, sample, name, *draws) * stop).astype(np.int64)
