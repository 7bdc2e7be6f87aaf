from collections import Counter

import numpy as np
import pytest

from pipelines.sampling.order import Order


@pytest.mark.parametrize("num_samples", [1, 2, 3, 5, 63, 64, 65, 1000, 4097, 100_003])
def test_every_epoch_is_a_permutation(num_samples: int) -> None:
    order = Order(seed=11, num_samples=num_samples)
    for epoch in (0, 1, 2**31):
        samples = order.samples(epoch, np.arange(num_samples))
        assert samples.dtype == np.int64
        assert np.array_equal(np.sort(samples), np.arange(num_samples))


def test_epochs_and_seeds_differ_and_places_can_be_asked_singly() -> None:
    order = Order(seed=0, num_samples=1000)
    places = np.arange(1000)
    first, second = order.samples(0, places), order.samples(1, places)
    other = Order(seed=1, num_samples=1000).samples(0, places)
    assert (first == second).mean() < 0.02
    assert (first == other).mean() < 0.02
    shuffled = np.random.default_rng(0).permutation(1000)
    assert np.array_equal(order.samples(0, shuffled), first[shuffled])
    assert [order.sample(0, n) for n in (0, 500, 999)] == first[[0, 500, 999]].tolist()


def test_all_orders_of_a_tiny_data_set_are_equally_likely() -> None:
    counts = Counter(
        tuple(Order(seed, 4).samples(epoch, np.arange(4)).tolist())
        for seed in range(6)
        for epoch in range(120)
    )
    assert len(counts) == 24
    chi2 = sum((count - 30) ** 2 / 30 for count in counts.values())
    assert chi2 < 50  # 23 degrees of freedom; 99.9 % is 49.7


def test_neighbours_are_as_far_apart_as_in_a_full_shuffle() -> None:
    n = 50_000
    samples = Order(seed=2, num_samples=n).samples(0, np.arange(n))
    distance = np.abs(np.diff(samples)).mean() / n
    assert distance == pytest.approx(1 / 3, abs=0.01)
    assert abs(np.corrcoef(np.arange(n), samples)[0, 1]) < 0.02
    displacement = (samples - np.arange(n)) / n
    assert abs(displacement.mean()) < 1e-9


def test_a_huge_data_set_costs_nothing() -> None:
    order = Order(seed=0, num_samples=10**15 + 7)
    samples = order.samples(3, np.arange(10**14, 10**14 + 1000))
    assert len(set(samples.tolist())) == 1000
    assert samples.max() < 10**15 + 7


@pytest.mark.parametrize(("places", "text"), [([-1], "places -1 to -1"), ([10], "10 samples")])
def test_places_outside_the_epoch_are_refused(places: list[int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Order(seed=0, num_samples=10).samples(0, np.array(places))


def test_an_empty_data_set_has_no_order() -> None:
    with pytest.raises(ValueError, match="at least one sample, got 0"):
        Order(seed=0, num_samples=0)
    with pytest.raises(ValueError, match="seed is -1"):
        Order(seed=-1, num_samples=5)
