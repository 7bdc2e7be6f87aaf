from hashlib import blake2b

import numpy as np
import pytest

from pipelines.sampling.draws import bits, integers, splitmix64, uniform

GAMMA = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


def reference_splitmix64(state: int) -> int:
    """The published algorithm in plain integers."""
    z = (state + GAMMA) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_splitmix64_gives_the_published_sequence() -> None:
    # The first outputs for seed 1234567, as Rosetta Code lists them for Vigna's C code.
    states = np.array([(1234567 + i * GAMMA) & MASK for i in range(5)], dtype=np.uint64)
    assert splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_bits_equal_the_chain_in_plain_integers() -> None:
    word = int.from_bytes(blake2b(b"time_shift", digest_size=8).digest(), "little")
    for seed, epoch, sample, draw in [(0, 0, 0, 0), (7, 3, 123456, 1), (2**40, 900, 2**33, 5)]:
        state = reference_splitmix64(seed)
        for value in (word, epoch, sample, draw):
            state = reference_splitmix64(state ^ value)
        assert int(bits(seed, epoch, sample, "time_shift", draw)) == state


def test_known_draws_stay_as_they_are() -> None:
    """A change here changes every run that was ever started."""
    assert uniform(0, 0, 0, "time_shift", 0) == pytest.approx(0.8531442316203441, abs=0)
    assert uniform(17, 2, 99, "video.crop_x", 1, 0, 1) == pytest.approx(0.3654627131609365, abs=0)


def test_vectorised_draws_equal_single_draws() -> None:
    samples, draws = np.arange(50)[:, None], np.arange(3)[None, :]
    table = uniform(5, 1, samples, "time_shift", draws)
    assert table.shape == (50, 3)
    for i in range(0, 50, 7):
        for k in range(3):
            assert table[i, k] == float(uniform(5, 1, i, "time_shift", k))


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    u = uniform(3, 0, np.arange(100_000), "a")
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.histogram(u, bins=100, range=(0, 1))[0]
    chi2 = ((counts - 1000) ** 2 / 1000).sum()
    assert 50 < chi2 < 170  # 99 degrees of freedom
    for other in (
        uniform(4, 0, np.arange(100_000), "a"),
        uniform(3, 1, np.arange(100_000), "a"),
        uniform(3, 0, np.arange(100_000), "b"),
        uniform(3, 0, np.arange(100_000), "a", 1),
        uniform(3, 0, np.arange(1, 100_001), "a"),
    ):
        assert abs(np.corrcoef(u, other)[0, 1]) < 0.015


def test_integers_cover_their_range() -> None:
    values = integers(7, 0, 0, np.arange(7000), "k")
    assert np.bincount(values, minlength=7).min() > 850
    per_row = integers(np.array([1, 2, 3]), 0, 0, np.arange(3), "k")
    assert (per_row < np.array([1, 2, 3])).all()
