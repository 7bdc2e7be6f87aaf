"""Data sets of which some samples cannot be decoded."""

import shutil
from pathlib import Path

import numpy as np

from pipelines.sampling.order import Order
from shards import Dataset


def with_damage(shards: Path, copy: Path, places: list[int]) -> Path:
    """A copy of which the samples at these places of the first epoch cannot be decoded."""
    shutil.copytree(shards, copy)
    for number in Order(3, 14).samples(0, np.array(places)).tolist():
        sample = Dataset.open(copy).sample(number)
        member = sample.members["flac"]
        with (copy / sample.shard).open("r+b") as file:
            file.seek(member.offset + member.size // 2)
            file.write(bytes(member.size // 2))
    return copy
