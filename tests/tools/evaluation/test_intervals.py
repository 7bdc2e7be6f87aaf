"""Intervals: against the binomial's, and where there is nothing to resample."""

import numpy as np
import pytest

from tools.evaluation.intervals import bootstrap


def test_a_share_has_the_interval_of_the_binomial() -> None:
    right = np.arange(400) % 4 == 0
    low, high = bootstrap(right)
    deviation = np.sqrt(0.25 * 0.75 / 400)
    assert low == pytest.approx(0.25 - 1.96 * deviation, abs=0.01)
    assert high == pytest.approx(0.25 + 1.96 * deviation, abs=0.01)
    assert (low, high) == bootstrap(right)


def test_ninety_five_of_a_hundred_cover_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        low, high = bootstrap(rng.normal(size=80))
        covered += low <= 0 <= high
    assert 88 <= covered <= 100


def test_medians_and_single_values() -> None:
    low, high = bootstrap(np.arange(101.0), np.median)
    assert low < 50 < high
    assert bootstrap([3.0], np.median) == (3.0, 3.0)
    assert bootstrap([1.0, 1.0, 1.0]) == (1.0, 1.0)
