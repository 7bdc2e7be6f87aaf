"""Mix data sets by weight: each gets its share of every thousand places, in a hashed order.

    n → block of 1,000 places → (data set, its own running number) → (its epoch, its sample)

Of the places of a block a data set has the same number in every block (its weight, to the nearest
thousandth); which ones is a keyed permutation of the block. So how often a data set had its turn
before place n is a product and a look into one block: order and resume need no memory and no time
that grow with the position, as with one data set. Each goes through its own samples in its own
order, pass after pass: a small one begins its second pass while a large one is in its first. Where
a pass ends within a batch, the next one does not begin with what that batch has already.

An epoch of a mixture is as many places as the data sets together have samples, in whole batches;
the next epoch goes on where it stands. Samples are numbered through: data set by data set.
"""

import bisect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.draws import Integers, bits
from pipelines.sampling.order import Order, Visits
from shards import IndexedSample, Samples

__all__ = ["BLOCK", "MixedOrder", "Mixture", "shares_of"]

BLOCK = 1000  # places


def shares_of(weights: Mapping[str, float]) -> dict[str, int]:
    """How many of `BLOCK` places each name gets: by weight, rounded by largest remainder.

    Raises:
        ValueError: no name; a weight that is not a positive number, or too small for one place.
    """
    if not weights:
        raise ValueError("a mixture needs at least one data set")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise ValueError(f"weight = {weight} of {name}, must be a number greater than 0")
    largest = max(weights.values())  # first, so that no sum of them is infinite
    whole = sum(weight / largest for weight in weights.values())
    exact = {name: BLOCK * (weight / largest) / whole for name, weight in weights.items()}
    shares = {name: math.floor(places) for name, places in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: BLOCK - sum(shares.values())]:
        shares[name] += 1
    for name, share in shares.items():
        if not share:
            raise ValueError(
                f"weight = {weights[name]} of {name} is {exact[name] / BLOCK:.2g} of all weights, "
                f"and the smallest share is 1 in {BLOCK}: give it more weight, or leave it out"
            )
    return shares


@dataclass(frozen=True)
class MixedOrder:
    """Which sample of which data set comes at each place; like `Order`, but endless.

    Attributes:
        seed: of the run.
        sizes: samples of each data set.
        shares: places of each in a block.
        epoch_length: places of an epoch of the mixture, in whole batches.
        batch_size: B. Places [k·B, (k+1)·B) hold no sample twice, if every data set has three times
            as many samples as any batch has places of it.
    """

    seed: int
    sizes: tuple[int, ...]
    shares: tuple[int, ...]
    epoch_length: int
    batch_size: int

    def __post_init__(self) -> None:
        if min(self.shares) < 1 or sum(self.shares) != BLOCK or min(self.sizes) < 1:
            raise ValueError(
                f"shares {self.shares} of data sets of {self.sizes} samples: each needs a sample "
                f"and a share, and the shares together are {BLOCK}"
            )
        if self.batch_size < 1 or self.epoch_length % self.batch_size:
            raise ValueError(
                f"an epoch of {self.epoch_length} places is not one of whole batches of "
                f"{self.batch_size}"
            )

    def visits(self, epoch: int, n: Integers) -> Visits:
        """The samples, numbered through, at places n of an epoch, and their data sets' epochs."""
        places = np.atleast_1d(np.asarray(n, dtype=np.int64))
        if places.size and (places.min() < 0 or places.max() >= self.epoch_length):
            raise ValueError(
                f"places {places.min()} to {places.max()} were asked of an epoch of "
                f"{self.epoch_length} places; a place lies in [0, {self.epoch_length})"
            )
        places = places + epoch * self.epoch_length
        members, turns = np.empty_like(places), np.empty_like(places)
        for block in np.unique(places // BLOCK).tolist():
            inside = places // BLOCK == block
            members_of_block, turns_of_block = _block(self.seed, self.shares, block)
            members[inside] = members_of_block[places[inside] - block * BLOCK]
            turns[inside] = turns_of_block[places[inside] - block * BLOCK]
        samples, epochs = np.empty_like(places), np.empty_like(places)
        first = 0
        for member, size in enumerate(self.sizes):
            mine = np.flatnonzero(members == member)
            epochs[mine] = turns[mine] // size
            order = Order(_seed_of(self.seed, member), size)
            reach = min(self._most_turns(member), size // 3)
            for own_epoch in np.unique(epochs[mine]).tolist():
                now = mine[epochs[mine] == own_epoch]
                places_of_pass = turns[now] % size
                begin = _begin(order, reach, own_epoch)
                early = places_of_pass < len(begin)
                places_of_pass[early] = begin[places_of_pass[early]]
                samples[now] = first + order.samples(own_epoch, places_of_pass)
            first += size
        return Visits(samples, epochs)

    def _most_turns(self, member: int) -> int:
        """Places that a data set can have in a batch, at most."""
        blocks = 2 + (self.batch_size - 2) // BLOCK  # that a batch can lie in
        return min(self.batch_size, blocks * self.shares[member])


@lru_cache(maxsize=8)
def _block(
    seed: int, shares: tuple[int, ...], block: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each place of a block: which data set, and how many turns that one had before."""
    cards = Order(_seed_of(seed, len(shares)), BLOCK).samples(block, np.arange(BLOCK))
    members = np.searchsorted(np.cumsum(shares), cards, side="right")
    turns = np.empty(BLOCK, np.int64)
    for member, share in enumerate(shares):
        turns[members == member] = block * share + np.arange(share)
    return members, turns


@lru_cache(maxsize=64)
def _begin(order: Order, reach: int, epoch: int) -> NDArray[np.int64]:
    """From which places of its permutation a pass takes its first 2 · reach samples.

    Those of the first `reach` that are among the last `reach` of the pass before change places with
    some of the next `reach`. Ends of passes stay as they are, so that no pass depends on more than
    the permutation before its own. A pass has at least 3 · reach samples.
    """
    places = np.arange(2 * reach)
    if epoch > 0 and reach > 0:
        last = order.samples(epoch - 1, np.arange(order.num_samples - reach, order.num_samples))
        is_last = np.isin(order.samples(epoch, places), last)
        again = np.flatnonzero(is_last[:reach])
        others = reach + np.flatnonzero(~is_last[reach:])[: len(again)]
        places[again], places[others] = others, again
    return places


@lru_cache(maxsize=256)
def _seed_of(seed: int, member: int) -> int:
    """A seed of its own for each data set, and for the order of the blocks."""
    return int(bits(seed, 0, member, "mixture"))


class Mixture:
    """Several data sets, seen as one: to be read sample by sample, and to be streamed.

    Data sets are sorted by name, and `IndexedSample.shard` begins with the name ("talks/shard-…").

    Args:
        data_sets: by name.
        weights: by the same names; only how they relate counts.

    Raises:
        ValueError: names that differ or hold a slash, or see `shares_of`.
    """

    def __init__(self, data_sets: Mapping[str, Samples], weights: Mapping[str, float]) -> None:
        if set(data_sets) != set(weights):
            raise ValueError(
                f"data sets {', '.join(sorted(data_sets))} with weights for "
                f"{', '.join(sorted(weights))}: the names must be the same"
            )
        if slashed := [name for name in data_sets if "/" in name or not name]:
            raise ValueError(f"data set {slashed[0]!r}: a name of a mixture has no slash")
        self.data_sets = {name: data_sets[name] for name in sorted(data_sets)}
        self.weights = {name: float(weights[name]) for name in self.data_sets}
        self.shares = shares_of(self.weights)
        if empty := [name for name, data_set in self.data_sets.items() if not len(data_set)]:
            raise ValueError(f"data set {empty[0]!r} has no sample: leave it out of the mixture")
        self._names = list(self.data_sets)
        self._stops = list(accumulate(len(data_set) for data_set in self.data_sets.values()))
        self.path = " + ".join(
            f"{self.shares[name] / BLOCK:.1%} {name} ({data_set.path})"
            for name, data_set in self.data_sets.items()
        )

    def __len__(self) -> int:
        return self._stops[-1]

    def __repr__(self) -> str:
        return f"Mixture({self.path}: {len(self)} samples)"

    @property
    def fingerprint(self) -> str:
        """The fingerprints of all, with their names."""
        return ", ".join(f"{name}={d.fingerprint}" for name, d in self.data_sets.items())

    @property
    def is_remote(self) -> bool:
        """Whether any of them lies on a server."""
        return any(data_set.is_remote for data_set in self.data_sets.values())

    def order(self, seed: int, batch_size: int) -> MixedOrder:
        """The order of a run, with epochs of whole batches.

        Raises:
            ValueError: a data set has fewer samples than places in a batch, so that most batches
                would hold a sample twice and take its two visits for one.
        """
        for name, data_set in self.data_sets.items():
            places = batch_size * self.shares[name] / BLOCK
            if places > len(data_set):
                raise ValueError(
                    f"data set {name!r} has {len(data_set)} samples, and of a batch of "
                    f"{batch_size} some {places:.1f} places: a sample would be there twice. Lower "
                    "its weight, or data.batch_size"
                )
        sizes = tuple(len(data_set) for data_set in self.data_sets.values())
        whole_batches = len(self) // batch_size * batch_size
        return MixedOrder(seed, sizes, tuple(self.shares.values()), whole_batches, batch_size)

    def sample(self, i: int) -> IndexedSample:
        """Sample i of all, 0 ≤ i < len."""
        name, number = self._place(i)
        sample = self.data_sets[name].sample(number)
        return replace(sample, shard=f"{name}/{sample.shard}")

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """See `Dataset.read`."""
        data_set, own = self._owner(sample)
        return data_set.read(own, offset, size)

    def reader(
        self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]
    ) -> Callable[[int, int], bytes]:
        """See `Dataset.reader`."""
        data_set, own = self._owner(sample)
        return data_set.reader(own, ranges)

    def read_member(self, sample: IndexedSample, extension: str) -> bytes:
        """See `Dataset.read_member`."""
        data_set, own = self._owner(sample)
        return data_set.read_member(own, extension)

    def metadata(self, i: int) -> dict[str, Any]:
        """See `Dataset.metadata`."""
        name, number = self._place(i)
        return self.data_sets[name].metadata(number)

    def _place(self, i: int) -> tuple[str, int]:
        if not 0 <= i < len(self):
            raise IndexError(f"the mixture has samples 0 to {len(self) - 1}; asked for {i}.")
        member = bisect.bisect_right(self._stops, i)
        return self._names[member], i - (self._stops[member - 1] if member else 0)

    def _owner(self, sample: IndexedSample) -> tuple[Samples, IndexedSample]:
        name, _, shard = sample.shard.partition("/")
        return self.data_sets[name], replace(sample, shard=shard)
