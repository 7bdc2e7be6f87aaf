"""Ranges against sets of byte numbers, which need no cleverness."""

import random
from itertools import pairwise

import pytest

from shards.storage.byte_ranges import Piece, assemble, joined, missing

CONTENT = bytes(range(256))
SEEDS = 40


def some_ranges(rng: random.Random, count: int) -> list[tuple[int, int]]:
    return [(a, a + rng.randrange(12)) for a in (rng.randrange(100) for _ in range(count))]


def bytes_of(ranges: list[tuple[int, int]]) -> set[int]:
    return {i for a, b in ranges for i in range(a, b)}


@pytest.mark.parametrize("seed", range(SEEDS))
def test_what_is_missing_is_what_no_piece_covers(seed: int) -> None:
    rng = random.Random(seed)
    wanted = some_ranges(rng, rng.randrange(5))
    kept = some_ranges(rng, rng.randrange(5))
    gaps = missing(wanted, sorted(Piece(a, CONTENT[a:b]) for a, b in kept))
    assert bytes_of(gaps) == bytes_of(wanted) - bytes_of(kept)
    assert gaps == sorted(gaps)
    assert sum(b - a for a, b in gaps) == len(bytes_of(gaps)), "a byte is asked for twice"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_joined_ranges_hold_all_and_waste_little(seed: int) -> None:
    rng = random.Random(seed)
    wanted = some_ranges(rng, rng.randrange(1, 6))
    gap, waste = rng.choice([0, 3, 50]), rng.choice([0.0, 0.2, 1.0])
    out = joined(wanted, gap, waste)
    assert bytes_of(wanted) <= bytes_of(out)
    for a, b in out:
        inside = bytes_of(wanted) & set(range(a, b))
        assert b - a - len(inside) <= waste * len(inside)
        assert {a, b - 1} <= inside, "a joined range begins and ends with wanted bytes"
    for (_, stop), (start, _) in pairwise(out):
        assert start > stop, "touching ranges are one"
    if waste == 0:
        assert bytes_of(out) == bytes_of(wanted)


def test_near_ranges_become_one_and_far_ones_do_not() -> None:
    assert joined([(0, 1000), (1100, 2000)], gap=100) == [(0, 2000)]
    assert joined([(0, 1000), (1101, 2000)], gap=100) == [(0, 1000), (1101, 2000)]
    # the gap is small, but more than a fifth of what is wanted
    assert joined([(0, 10), (14, 20)], gap=100) == [(0, 10), (14, 20)]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_assembly_gives_the_bytes_or_says_what_is_missing(seed: int) -> None:
    rng = random.Random(seed)
    kept = some_ranges(rng, 12)
    pieces = sorted(Piece(a, CONTENT[a:b]) for a, b in kept)
    start = rng.randrange(100)
    stop = start + rng.randrange(20)
    if set(range(start, stop)) <= bytes_of(kept):
        assert assemble(start, stop, pieces) == CONTENT[start:stop]
    else:
        first = min(set(range(start, stop)) - bytes_of(kept))
        with pytest.raises(ValueError, match=f"no piece covers byte {first} "):
            assemble(start, stop, pieces)
