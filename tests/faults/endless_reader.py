"""A reader that somebody kills, for its process to import without importing the tests."""

import random
from typing import Any

import aiohttp  # noqa: F401 - here, so that it is imported once and not by every reader
import fsspec.implementations.http  # noqa: F401

from shards import Dataset, RemoteOptions


def read_for_ever(url: str, local_path: str, options: RemoteOptions, seed: int, begun: Any) -> None:
    """Read what is at `url` in random order; ends when it is not what lies at `local_path`."""
    remote, local, order = (
        Dataset.open(url, remote=options),
        Dataset.open(local_path),
        random.Random(seed),
    )
    expected = [read(local, i) for i in range(len(local))]
    begun.set()
    while True:
        i = order.randrange(len(remote))
        assert read(remote, i) == expected[i]


def media(dataset: Dataset, i: int) -> list[tuple[int, int]]:
    """The whole of sample i's video and audio, packet by packet in two runs."""
    sample = dataset.sample(i)
    return [(sample.members[e].offset, sample.members[e].size) for e in ("mp4", "flac")]


def read(dataset: Dataset, i: int) -> list[bytes]:
    return dataset.read_many(dataset.sample(i), media(dataset, i))
