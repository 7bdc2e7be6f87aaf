"""The statistics of shuffling: on orders whose answer is known, and of the keyed permutation."""

import numpy as np
import pytest

from benchmarks.shuffle import (
    SHARD,
    buffered,
    expected_repeats,
    keyed,
    measure,
    permuted,
    quality,
)
from pipelines.sampling.order import Order


def test_the_statistics_of_no_shuffle_are_known() -> None:
    stored = quality(np.arange(20_000), batch_size=100)
    assert stored.neighbour_distance == 1 / 20_000
    assert stored.near_neighbours == 1
    assert stored.repeats_a_batch == 90  # ten videos a batch, ten samples each
    assert stored.videos_in_window == 1000
    apart = np.arange(20_000).reshape(2000, 10).T.reshape(-1)  # each video's first, then …
    assert quality(apart, batch_size=100).repeats_a_batch == 0


def test_expected_repeats_are_those_of_permutations() -> None:
    rng = np.random.default_rng(0)
    found = [quality(rng.permutation(2000), 100).repeats_a_batch for _ in range(200)]
    assert np.mean(found) == pytest.approx(expected_repeats(2000, 100), rel=0.02)


def test_the_order_shuffles_like_a_full_permutation_and_a_buffer_does_not() -> None:
    size, batch = 20 * SHARD, 100
    ours, full, buffer = (measure(order, size, batch)[0] for order in (keyed, permuted, buffered))
    expected = expected_repeats(size, batch)
    spread = np.sqrt(expected / (size / batch))  # of a mean over batches, repeats being rare
    for found in (ours, full):
        assert abs(found.repeats_a_batch - expected) < 4 * spread
        assert found.neighbour_distance == pytest.approx(1 / 3, abs=0.01)
        assert found.near_neighbours == pytest.approx(2 / 20, abs=0.01)
    assert buffer.repeats_a_batch > 5 * expected
    assert buffer.near_neighbours > 0.3
    assert ours.videos_in_window > 0.99 * full.videos_in_window > 1.5 * buffer.videos_in_window


def test_memory_does_not_grow_with_the_data_set() -> None:
    peaks = [measure(keyed, size, 500)[1] for size in (10 * SHARD, 100 * SHARD)]
    assert peaks[1] < 1.5 * peaks[0] + 10_000
    assert measure(permuted, 100 * SHARD, 500)[1] > 5 * peaks[1]


@pytest.mark.parametrize("num_samples", [12, 40])
def test_every_sample_is_equally_likely_at_every_place_and_after_every_other(
    num_samples: int,
) -> None:
    """Chi-square of two tables; its mean is its degrees of freedom f, its deviation √(2 f)."""
    places = np.zeros((num_samples, num_samples))
    followers = np.zeros((num_samples, num_samples))
    for seed in range(5):
        for epoch in range(300):
            samples = Order(seed, num_samples).samples(epoch, np.arange(num_samples))
            places[np.arange(num_samples), samples] += 1
            followers[samples[:-1], samples[1:]] += 1
    expected = 1500 / num_samples
    chi2 = ((places - expected) ** 2 / expected).sum()
    degrees = (num_samples - 1) ** 2
    assert abs(chi2 - degrees) < 4 * np.sqrt(2 * degrees)
    pairs = followers[~np.eye(num_samples, dtype=bool)]
    expected = 1500 * (num_samples - 1) / len(pairs)
    chi2 = ((pairs - expected) ** 2 / expected).sum()
    degrees = num_samples * (num_samples - 1)
    assert abs(chi2 - degrees) < 5 * np.sqrt(2 * degrees)
