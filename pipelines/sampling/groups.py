"""Batches of one group: an epoch's order in which films, speakers or labels stay together.

    samples, shuffled in their groups ─► groups, shuffled ─► cut into batches ─► batches, shuffled

Every sample comes once in an epoch, and a batch is of one group, but where one ends within it and
the next begins; groups smaller than a batch share one. So `(seed, epoch, n) → sample` is a pure
function here, too; unlike `Order` it needs 8 bytes a sample, and sorts them once an epoch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.draws import Integers, bits
from pipelines.sampling.order import Visits
from shards import Samples, ShardError

__all__ = ["GroupedOrder", "groups_of"]


class GroupedOrder:
    """A shuffle of an epoch in batches of one group; like `Order` otherwise.

    Args:
        seed: of the run.
        groups: int64 [N], the group of each sample.
        batch_size: B; the epoch's last N mod B samples fill no batch.
    """

    def __init__(self, seed: int, groups: NDArray[np.int64], batch_size: int) -> None:
        self.seed, self.groups, self.batch_size = seed, groups, batch_size
        self._orders: dict[int, NDArray[np.int64]] = {}

    def visits(self, epoch: int, n: Integers) -> Visits:
        """The samples at places n, each in [0, N), and the epoch, which is the data set's own."""
        if epoch not in self._orders:
            last = list(self._orders.items())[-1:]  # threads may still ask for the one before
            self._orders = dict([*last, (epoch, self._sorted(epoch))])
        samples = self._orders[epoch][np.atleast_1d(np.asarray(n, dtype=np.int64))]
        return Visits(samples, np.full_like(samples, epoch))

    def _sorted(self, epoch: int) -> NDArray[np.int64]:
        numbers = np.arange(len(self.groups))
        of_sample = bits(self.seed, epoch, numbers, "group.sample")
        of_group = bits(self.seed, epoch, self.groups, "group")
        by_group = np.lexsort((of_sample, of_group))
        whole = len(numbers) // self.batch_size
        batches = by_group[: whole * self.batch_size].reshape(whole, self.batch_size)
        turns = np.argsort(bits(self.seed, epoch, np.arange(whole), "group.batch"))
        return np.concatenate([batches[turns].ravel(), by_group[batches.size :]])


def groups_of(dataset: Samples, key: str) -> NDArray[np.int64]:
    """The group of each sample, int64 [N], numbered as they first come: its json's value of `key`.

    The json of every sample is read. One whose json is damaged is of a group of its own: it will be
    skipped when its turn comes.

    Args:
        dataset: the samples.
        key: of the json, or of its `metadata`: "source", "label", a column of a labels file.

    Raises:
        ValueError: a sample has no such key.
    """
    numbers: dict[str, int] = {}
    groups = np.empty(len(dataset), np.int64)
    for number in range(len(dataset)):
        try:
            metadata = dataset.metadata(number)
        except ShardError:
            groups[number] = numbers.setdefault("", len(numbers))
            continue
        value = _value_of(metadata, key)
        if value is None:
            known = sorted(name for name, held in metadata.items() if isinstance(held, str | int))
            raise ValueError(
                f"data.group_by = {key!r}: sample {dataset.sample(number).key!r} of {dataset.path} "
                f"has no such key in its json; it has {', '.join(known) or 'none'}"
            )
        groups[number] = numbers.setdefault(f"={value}", len(numbers))
    return groups


def _value_of(metadata: Mapping[str, Any], key: str) -> Any:
    inner = metadata.get("metadata")
    for place in (metadata, inner if isinstance(inner, Mapping) else {}):
        if place.get(key) not in (None, ""):
            return place[key]
    return None
