"""Shuffle an epoch by a keyed permutation that is computed place by place, not stored.

A Feistel network with random round functions permutes [0, 2**bits); values that fall outside the
data set walk the permutation's cycle until they fall inside (Black and Rogaway: Ciphers with
Arbitrary Finite Domains, CT-RSA 2002). So `(seed, epoch, n) → sample` is a pure function: memory
does not grow with the data set, the time to resume does not grow with the position, and every rank
computes only its own places. There is no shuffle buffer.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.draws import Integers, bits, splitmix64

__all__ = ["Order", "Visits"]

_ROUNDS = (
    10  # even, so that both halves return to their places; small data sets need the extra ones
)
_LEAST_BITS = 6


class Visits(NamedTuple):
    """What stands at some places of a run.

    Attributes:
        samples: int64 [n], numbers in the data set.
        epochs: int64 [n], how many times each sample's data set was gone through before; what its
            draws are made from, so that a second visit is not the first once more.
    """

    samples: NDArray[np.int64]
    epochs: NDArray[np.int64]


@dataclass(frozen=True)
class Order:
    """A full shuffle of `num_samples` samples for each epoch.

    >>> sorted(Order(seed=0, num_samples=5).samples(0, np.arange(5)).tolist())
    [0, 1, 2, 3, 4]
    """

    seed: int
    num_samples: int

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be 0 or more")
        if self.num_samples < 1:
            raise ValueError(f"an order needs at least one sample, got {self.num_samples}")

    def sample(self, epoch: int, n: int) -> int:
        """Index in the data set of the n-th sample of the epoch."""
        return int(self.samples(epoch, np.array([n]))[0])

    def visits(self, epoch: int, n: Integers) -> Visits:
        """The samples at places n, and the epoch, which is the data set's own."""
        samples = self.samples(epoch, n)
        return Visits(samples, np.full_like(samples, epoch))

    def samples(self, epoch: int, n: Integers) -> NDArray[np.int64]:
        """The same for an array of places n, each in [0, num_samples)."""
        places = np.atleast_1d(np.asarray(n, dtype=np.int64))
        if places.size and (places.min() < 0 or places.max() >= self.num_samples):
            raise ValueError(
                f"places {places.min()} to {places.max()} were asked of an epoch of "
                f"{self.num_samples} samples; a place lies in [0, {self.num_samples})"
            )
        keys = _round_keys(self.seed, epoch)
        width = max(_LEAST_BITS, (self.num_samples - 1).bit_length())
        out = _feistel(places.astype(np.uint64), keys, width)
        while (outside := out >= self.num_samples).any():
            out[outside] = _feistel(out[outside], keys, width)
        return out.astype(np.int64)


@lru_cache(maxsize=64)
def _round_keys(seed: int, epoch: int) -> NDArray[np.uint64]:
    return bits(seed, epoch, 0, "order", np.arange(_ROUNDS))


def _feistel(
    values: NDArray[np.uint64], keys: NDArray[np.uint64], width: int
) -> NDArray[np.uint64]:
    """Permute integers of `width` bits; halves of unequal width swap their widths each round."""
    left_bits, right_bits = np.uint64(width // 2), np.uint64(width - width // 2)
    one = np.uint64(1)
    left, right = values >> right_bits, values & ((one << right_bits) - one)
    for key in keys:
        left ^= splitmix64(right ^ key) & ((one << left_bits) - one)
        left, right = right, left
        left_bits, right_bits = right_bits, left_bits
    return (left << right_bits) | right
