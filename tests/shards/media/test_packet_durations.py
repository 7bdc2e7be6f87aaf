from fractions import Fraction

import numpy as np
import pytest

from shards.media.packet_durations import counted_out, is_coarse, samples_of

MILLISECOND = Fraction(1, 1000)


def rounded(begins: np.ndarray, rate: int) -> np.ndarray:
    """What a millisecond clock says of sample numbers."""
    return np.rint(begins * 1000 / rate).astype(np.int64)


@pytest.mark.parametrize("first", [0, -1024, 30_870])
def test_a_millisecond_clock_is_counted_out_to_the_sample(first: int) -> None:
    counts = np.full(400, 1024)
    begins = first + np.cumsum(counts) - 1024
    got = counted_out(rounded(begins, 44_100), MILLISECOND, counts, 44_100)
    assert np.array_equal(np.diff(got), counts[:-1])
    assert np.abs(got - begins).max() <= 2


def test_a_hole_begins_a_new_run() -> None:
    counts = np.full(300, 960)
    begins = np.cumsum(counts) - 960
    begins[100:] += 4800
    begins[200:] += 480  # ten milliseconds
    got = counted_out(rounded(begins, 48_000), MILLISECOND, counts, 48_000)
    assert np.abs(got - begins).max() <= 24
    assert np.array_equal(np.flatnonzero(np.diff(got) != 960), [99, 199])


def test_a_clock_that_drifts_is_followed_to_a_millisecond() -> None:
    counts = np.full(2000, 1024)
    begins = (np.cumsum(counts) - 1024) * 1.0004
    got = counted_out(rounded(begins, 44_100), MILLISECOND, counts, 44_100)
    assert np.abs(got - begins).max() <= 44.1


def test_packets_of_any_length_are_counted() -> None:
    rng = np.random.default_rng(0)
    counts = rng.choice([120, 480, 960, 2880], 500)
    begins = 77 + np.cumsum(counts) - counts
    got = counted_out(rounded(begins, 48_000), MILLISECOND, counts, 48_000)
    assert len(set((got - begins).tolist())) == 1
    assert abs(got[0] - 77) <= 12  # packets of whole half milliseconds tell no more


def test_which_clocks_are_coarse() -> None:
    assert is_coarse(MILLISECOND, 8000)
    assert not is_coarse(Fraction(1, 90_000), 48_000)
    assert not is_coarse(Fraction(1, 44_100), 44_100)


def test_packets_that_no_decoder_takes_are_not_counted() -> None:
    assert samples_of("flac", b"", 44_100, 1, [b"not flac"]) is None
    counts = samples_of("pcm_s16le", b"", 44_100, 2, [bytes(400), bytes(4)])
    assert counts is not None
    assert counts.tolist() == [100, 1]
