"""Cutting, against what one can count by hand."""

from collections.abc import Iterable
from fractions import Fraction

import pytest

from shards import BuildError, BuildOptions
from shards.cutting import PlannedSource, clip_counts, cut, ranges, tails
from shards.transcode import Unit


def source(number: int, seconds: float | Fraction, name: str = "") -> PlannedSource:
    return PlannedSource(
        number=number,
        name=name or f"{number}.mp4",
        path=f"/videos/{number}.mp4",
        size=1,
        mtime_ns=1,
        origin=Fraction(0),
        duration_seconds=Fraction(seconds),
        has_audio=True,
    )


def shape(shards: Iterable[list[Unit]]) -> list[list[tuple[int, int, int]]]:
    """(source, first clip, clips) of every unit of every shard."""
    return [[(u.number, u.first_clip, u.num_clips) for u in shard] for shard in shards]


def test_clips_fill_shards_and_units_do_not_cross_them() -> None:
    options = BuildOptions(clip_seconds=10, clips_per_shard=4, seconds_per_unit=20)
    sources = [source(1, 35), source(2, 9), source(3, 61), source(4, 10)]
    assert shape(cut(sources, "", options)) == [
        [(1, 0, 2), (1, 2, 1), (3, 0, 1)],
        [(3, 1, 2), (3, 3, 2)],
        [(3, 5, 1), (4, 0, 1)],
    ]
    starts = [u.start_seconds for shard in cut([source(3, 61)], "", options) for u in shard]
    assert starts == [0, 20, 40]


def test_a_tail_that_is_too_short_is_counted() -> None:
    options = BuildOptions(clip_seconds=10, fps=30)
    assert clip_counts(source(1, 35), options) == {"": 3}
    assert tails(source(1, 35), options) == 1
    assert tails(source(1, 30), options) == 0
    # a declared length may miss the last frame's own time: half a frame less is still all there
    assert clip_counts(source(1, Fraction(30) - Fraction(1, 61)), options) == {"": 3}
    assert clip_counts(source(1, Fraction(30) - Fraction(1, 50)), options) == {"": 2}


def test_the_held_out_part_comes_last_after_a_gap() -> None:
    options = BuildOptions(clip_seconds=4, holdout=0.2, gap_seconds=10)
    film = source(1, Fraction(14315, 24))  # Big Buck Bunny's pictures
    found = ranges(film, options)
    split = found["val"][0]
    assert float(split) == pytest.approx(596.458 * 0.8, abs=1 / 30)
    assert found == {"train": (0, split - 10), "val": (split, film.duration_seconds)}
    assert clip_counts(film, options) == {"train": 116, "val": 29}
    held_out = [u for shard in cut([film], "val", options) for u in shard]
    assert held_out[0].first_clip == 116  # numbered on, so that no key is used twice
    assert held_out[0].start_seconds == split
    trained = [u for shard in cut([film], "train", options) for u in shard]
    end = trained[-1].start_seconds + trained[-1].num_clips * options.clip_length
    assert end <= split - 10


def test_sources_are_held_out_whole_and_always_the_same_ones() -> None:
    options = BuildOptions(clip_seconds=1, holdout=0.25, split_by="source")
    sources = [source(n, 5, f"{n}.mp4") for n in range(400)]
    held_out = {u.name for shard in cut(sources, "val", options) for u in shard}
    trained = {u.name for shard in cut(sources, "train", options) for u in shard}
    assert not held_out & trained
    assert len(held_out | trained) == 400
    assert 60 < len(held_out) < 140
    fewer = {u.name for shard in cut(sources[::2], "val", options) for u in shard}
    assert fewer == held_out & {s.name for s in sources[::2]}


def test_options_check_themselves() -> None:
    for wrong, named in (
        ({"clip_seconds": 0.0}, "clip_seconds is 0.0; allowed: 0.5–600"),
        ({"clip_seconds": float("nan")}, "clip_seconds is nan"),
        ({"size": (100, 64)}, "multiples of 16"),
        ({"fit": "squash"}, "fit is 'squash'; allowed: crop or pad"),
        ({"holdout": 1.0}, "holdout is 1.0"),
        ({"require": ("audio", "motoin")}, "require is"),
        ({"sample_rate_hz": 44100}, "16000, 24000 or 48000"),
    ):
        with pytest.raises(BuildError, match=named):
            BuildOptions(**wrong)


def test_sizes_rates_and_lengths_are_exact() -> None:
    options = BuildOptions(clip_seconds=10, short_side=128, fps=29.97)
    assert (options.width, options.height) == (224, 128)
    assert options.frame_rate == Fraction(30000, 1001)
    assert options.frames_per_clip == 300
    assert options.clip_length == Fraction(1001, 100)
    assert options.gop_frames == 15
    assert BuildOptions(fps=12.5).frame_rate == Fraction(25, 2)
    assert BuildOptions(size=(64, 96)).width == 64
    with_other_crf = BuildOptions(crf=30)
    assert with_other_crf.fingerprint() != BuildOptions().fingerprint()
