"""How well orders shuffle, and what they hold in memory: `python -m benchmarks.shuffle`.

100,000 samples, ten of each of 10,000 videos, lie in shards of 1,000, a video's samples side by
side, as builds write them. Compared: this project's order; a full permutation; and what streaming
loaders do, shards in random order through a buffer of 1,000 samples (webdataset's own). Of each:

    neighbour distance   how far apart, as a share of the data set, following samples are stored;
                         1/3 for two random ones
    near neighbours      share of following samples that are stored within one shard's length
    repeats a batch      samples of a batch whose video is in it already
    videos in 10,000     different videos in 10,000 samples that follow each other
"""

import argparse
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.sampling.order import Order

SHARD = BUFFER = 1000
SAMPLES_A_VIDEO = 10
WINDOW = 10_000


@dataclass(frozen=True)
class Quality:
    """What a table row says of an order."""

    neighbour_distance: float
    near_neighbours: float
    repeats_a_batch: float
    videos_in_window: float


def quality(samples: NDArray[np.int64], batch_size: int) -> Quality:
    """The statistics of one epoch's samples, int64 [N], numbered as they are stored."""
    distance = np.abs(np.diff(samples))
    videos = samples // SAMPLES_A_VIDEO
    batches = videos[: len(videos) // batch_size * batch_size].reshape(-1, batch_size)
    windows = videos[: len(videos) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return Quality(
        neighbour_distance=float(distance.mean() / len(samples)),
        near_neighbours=float((distance < SHARD).mean()),
        repeats_a_batch=batch_size - _mean_distinct(batches),
        videos_in_window=_mean_distinct(windows) if len(windows) else float("nan"),
    )


def _mean_distinct(rows: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.unique(row)) for row in rows]))


def expected_repeats(num_samples: int, batch_size: int) -> float:
    """Repeats in a batch drawn at random, without replacement: B minus the videos expected."""
    absent = 1.0  # that none of a video's samples is in the batch
    for taken in range(SAMPLES_A_VIDEO):
        absent *= (num_samples - batch_size - taken) / (num_samples - taken)
    return batch_size - num_samples / SAMPLES_A_VIDEO * (1 - absent)


def keyed(num_samples: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """This project's order, batch by batch."""
    order = Order(0, num_samples)
    for first in range(0, num_samples, batch_size):
        yield order.samples(0, np.arange(first, min(first + batch_size, num_samples)))


def permuted(num_samples: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """A full permutation, drawn and kept."""
    order = np.random.default_rng(0).permutation(num_samples)
    for first in range(0, num_samples, batch_size):
        yield order[first : first + batch_size]


def buffered(num_samples: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Shards in random order, read one after the other through webdataset's buffer."""
    from webdataset.filters import shuffle

    rng = random.Random(0)  # noqa: S311 - webdataset asks for one of this kind
    shards = rng.sample(range(num_samples // SHARD), num_samples // SHARD)
    stored = (shard * SHARD + place for shard in shards for place in range(SHARD))
    batch = []
    for sample in shuffle(BUFFER, initial=BUFFER, rng=rng)(stored):
        batch.append(sample)
        if len(batch) == batch_size:
            yield np.array(batch)
            batch = []
    yield np.array(batch, dtype=np.int64)


def measure(
    order: Callable[[int, int], Iterator[NDArray[np.int64]]], num_samples: int, batch_size: int
) -> tuple[Quality, int]:
    """The quality of an order's epoch, and the most bytes it holds while it is drawn."""
    samples = np.concatenate(list(order(num_samples, batch_size)))
    assert np.array_equal(np.sort(samples), np.arange(num_samples))
    tracemalloc.start()
    for _ in order(num_samples, batch_size):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return quality(samples, batch_size), peak


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--batch-size", type=int, default=256)
    arguments = parser.parse_args()
    num_samples, batch_size = arguments.samples // SHARD * SHARD, arguments.batch_size
    print(
        f"{num_samples:,} samples, {SAMPLES_A_VIDEO} a video, shards of {SHARD:,}, batches of "
        f"{batch_size}; a random batch has {expected_repeats(num_samples, batch_size):.2f} repeats"
    )
    print(
        "| order | neighbour distance | near neighbours | repeats a batch | videos in "
        f"{WINDOW:,} | memory for the order |\n|---|---|---|---|---|---|"
    )
    orders = {"keyed permutation": keyed, "full permutation": permuted}
    for name, order in {**orders, f"shuffle buffer of {BUFFER:,}": buffered}.items():
        found, peak = measure(order, num_samples, batch_size)
        extra = f" + {BUFFER:,} samples" if order is buffered else ""
        print(
            f"| {name} | {found.neighbour_distance:.3f} | {found.near_neighbours:.1%} | "
            f"{found.repeats_a_batch:.2f} | {found.videos_in_window:.0f} | "
            f"{peak / 1000:,.0f} kB{extra} |"
        )


if __name__ == "__main__":
    main()
