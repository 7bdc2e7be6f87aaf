"""Starts a distance apart, against trying draws again until they are."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.sampling.draws import uniform
from pipelines.sampling.time_shifts import overlapping_share, room_needed, spread

ROOM, APART, DRAWS = 3.0, 0.8, 3


def drawn(clips: int, room: float = ROOM, apart: float = APART) -> NDArray[np.float64]:
    """Starts [clips, K]."""
    places = uniform(7, 0, np.arange(clips)[:, None], "time_shift", np.arange(DRAWS))
    return np.array([spread(row, room, apart) for row in places])


def rejected(clips: int) -> NDArray[np.float64]:
    """The same distribution by its definition: independent draws, if they are far enough apart."""
    tries = np.random.default_rng(0).uniform(0, ROOM, (40 * clips, DRAWS))
    good = (np.diff(np.sort(tries, axis=1), axis=1) >= APART).all(axis=1)
    assert good.sum() >= clips
    return np.asarray(tries[good][:clips])


def test_without_a_distance_starts_are_the_draws_times_the_room_bit_for_bit() -> None:
    places = uniform(7, 0, np.arange(500)[:, None], "time_shift", np.arange(4))
    for row in places:
        assert np.array_equal(spread(row, 2.7), row * 2.7)


def test_starts_are_a_distance_apart_and_in_the_room() -> None:
    starts = drawn(5000)
    assert np.diff(np.sort(starts, axis=1), axis=1).min() >= APART - 1e-12
    assert starts.min() >= 0
    assert starts.max() <= ROOM
    assert np.diff(np.sort(starts, axis=1), axis=1).min() < APART + 0.01, "and no farther"


def test_starts_are_distributed_as_by_rejection() -> None:
    ours, theirs, steps = drawn(8000), rejected(8000), np.linspace(0, ROOM, 31)
    largest = 1.95 * np.sqrt(2 / 8000)  # Kolmogorov and Smirnov, p = 0.001
    columns = [(ours[:, k], theirs[:, k]) for k in range(DRAWS)]
    columns += [(np.sort(ours)[:, k], np.sort(theirs)[:, k]) for k in range(DRAWS)]
    columns += [(abs(ours[:, a] - ours[:, b]), abs(theirs[:, a] - theirs[:, b]))
                for a, b in pairwise(range(DRAWS))]  # fmt: skip
    for mine, expected in columns:
        difference = [(mine <= step).mean() - (expected <= step).mean() for step in steps]
        assert np.abs(difference).max() < largest


def test_no_code_comes_first_more_often_than_another() -> None:
    firsts = np.bincount(drawn(6000).argmin(axis=1), minlength=DRAWS)
    assert np.abs(firsts / 6000 - 1 / DRAWS).max() < 0.025


def test_where_there_is_just_room_all_starts_are_settled() -> None:
    starts = np.sort(drawn(50, room=room_needed(DRAWS, APART)), axis=1)
    np.testing.assert_allclose(starts, np.tile([0.0, 0.8, 1.6], (50, 1)), atol=1e-12)


@pytest.mark.parametrize("draws", [2, 3, 5])
@pytest.mark.parametrize("apart", [0.0, 0.3, 0.5, 1.0])
def test_the_share_that_overlaps_is_what_draws_give(draws: int, apart: float) -> None:
    rng, room, seconds = np.random.default_rng(1), 4.5, 1.0
    starts = np.array([spread(row, room, apart) for row in rng.uniform(size=(4000, draws))])
    pairs = [(a, b) for a in range(draws) for b in range(a)]
    counted = np.mean([np.abs(starts[:, a] - starts[:, b]) < seconds - 1e-9 for a, b in pairs])
    assert overlapping_share(seconds, room, draws, apart) == pytest.approx(counted, abs=0.025)


def test_known_shares() -> None:
    assert overlapping_share(1.0, 3.0, 2) == pytest.approx(5 / 9)  # 1 s of 4 s
    assert overlapping_share(1.0, 3.0, 4) == pytest.approx(5 / 9)  # of independent draws, any K
    assert overlapping_share(1.0, 0.0, 2) == 1
    assert overlapping_share(1.0, 1.0, 2, 1.0) == 0
