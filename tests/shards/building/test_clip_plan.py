"""Cutting, against what one can count by hand."""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import pytest

from shards import BuildError, BuildOptions
from shards.building.clip_plan import (
    clips_after_end,
    cut_shards,
    cut_source,
    ranges,
    too_short_remainders,
)
from shards.building.planned_source import PlannedSource
from shards.building.survey import Survey
from shards.encoding.transcode import Unit
from shards.media.probe import Probe
from shards.sources.source import Source
from shards.storage.opening import Location


def source(
    number: int,
    seconds: float | Fraction,
    name: str = "",
    frame_rate: Fraction = Fraction(25),
    scene_cuts: tuple[Fraction, ...] = (),
    **row: Any,
) -> PlannedSource:
    probe = Probe(
        width=64,
        height=48,
        origin=Fraction(0),
        duration_seconds=Fraction(seconds),
        frame_rate=frame_rate,
        has_audio=True,
        size=1,
        version="1",
    )
    location = Location(f"/videos/{number}.mp4")
    named = Source(name or f"{number}.mp4", location, **row)
    return PlannedSource(number, named, Survey(probe, scene_cuts))


def clip_counts(planned: PlannedSource, options: BuildOptions) -> dict[str, int]:
    return {part: len(cut.clips) for part, cut in cut_source(planned, options).items()}


def tails(planned: PlannedSource, options: BuildOptions) -> int:
    return too_short_remainders(cut_source(planned, options), options)


def shape(shards: Iterable[list[Unit]]) -> list[list[tuple[int, int, int]]]:
    """(source, first clip, clips) of every unit of every shard."""
    return [[(u.number, u.first_clip, u.num_clips) for u in shard] for shard in shards]


def test_clips_fill_shards_and_units_do_not_cross_them() -> None:
    options = BuildOptions(clip_seconds=10, clips_per_shard=4, seconds_per_unit=20)
    sources = [source(1, 35), source(2, 9), source(3, 61), source(4, 10)]
    assert shape(cut_shards(sources, "", options)) == [
        [(1, 0, 2), (1, 2, 1), (3, 0, 1)],
        [(3, 1, 2), (3, 3, 2)],
        [(3, 5, 1), (4, 0, 1)],
    ]
    starts = [u.clips[0].start for shard in cut_shards([source(3, 61)], "", options) for u in shard]
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
    split = found["val"][0][0]
    assert float(split) == pytest.approx(596.458 * 0.8, abs=1 / 30)
    duration = film.found.probe.duration_seconds
    assert found == {"train": [(0, split - 10)], "val": [(split, duration)]}
    assert clip_counts(film, options) == {"train": 116, "val": 29}
    held_out = [u for shard in cut_shards([film], "val", options) for u in shard]
    assert held_out[0].first_clip == 116  # numbered on, so that no key is used twice
    assert held_out[0].clips[0].start == split
    trained = [u for shard in cut_shards([film], "train", options) for u in shard]
    assert trained[-1].clips[-1].stop <= split - 10


EVERY: dict[str, Any] = {"holdout_every": 40, "holdout": 6, "gap_seconds": 3}


def spans(planned: PlannedSource, part: str, options: BuildOptions) -> list[tuple[float, float]]:
    cuts = cut_source(planned, options)
    return [(float(a), float(b)) for a, b in cuts[part].clips] if part in cuts else []


def test_of_every_stretch_a_part_is_held_out_between_two_gaps() -> None:
    options = BuildOptions(clip_seconds=2, **EVERY)
    film = source(1, 500, start_seconds=Fraction(10), stop_seconds=Fraction(490))
    assert clip_counts(film, options) == {"train": 12 * 14, "val": 12 * 3}
    train, val = spans(film, "train", options), spans(film, "val", options)
    expected = [10 + 40 * n + offset for n in range(12) for offset in range(0, 28, 2)]
    assert [start for start, _ in train] == expected
    assert [start for start, _ in val] == [41 + 40 * n + k for n in range(12) for k in (0, 2, 4)]
    assert min(max(a - d, c - b) for a, b in val for c, d in train) == 3
    assert tails(film, options) == 0


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001), Fraction(7, 3)])
@pytest.mark.parametrize("length", [31, 39.5, 83, 127.3])
def test_held_out_clips_are_a_gap_away_at_any_rate_and_length(
    rate: Fraction, length: float
) -> None:
    options = BuildOptions(clip_seconds=2, fps=rate, **EVERY)
    film = source(1, Fraction(length), frame_rate=rate)
    train, val = spans(film, "train", options), spans(film, "val", options)
    frame = 1 / float(rate)
    for part, first, room in (("train", 0, 28), ("val", 31, 6)):
        for start, stop in spans(film, part, options):
            place = start % 40
            assert first - 1e-9 <= place
            assert place + (stop - start) <= first + room + frame
            assert stop <= length + frame
    assert all(max(a - d, c - b) >= 3 - frame for a, b in val for c, d in train)
    keys = [u for part in ("train", "val") for s in cut_shards([film], part, options) for u in s]
    numbers = [u.first_clip + i for u in keys for i in range(u.num_clips)]
    assert sorted(numbers) == list(range(len(train) + len(val))), "each key is used once"


def test_a_source_that_ends_before_the_held_out_seconds_is_all_for_training() -> None:
    options = BuildOptions(clip_seconds=2, **EVERY)
    assert clip_counts(source(1, 31), options) == {"train": 14}


def test_scenes_are_held_out_in_stretches_too() -> None:
    options = BuildOptions(cut="scenes", clip_seconds=10, min_clip_seconds=1, **EVERY)
    film = source(1, 40, scene_cuts=(Fraction(20), Fraction(33)))
    assert spans(film, "train", options) == [(0, 10), (10, 20), (20, 28)]
    assert spans(film, "val", options) == [(31, 33), (33, 37)]


def test_held_out_clips_may_have_a_length_of_their_own() -> None:
    options = BuildOptions(clip_seconds=28, holdout_clip_seconds=2, **EVERY)
    film = source(1, 500, start_seconds=Fraction(10), stop_seconds=Fraction(490))
    assert clip_counts(film, options) == {"train": 12, "val": 12 * 3}
    assert spans(film, "train", options)[:2] == [(10, 38), (50, 78)]
    assert spans(film, "val", options)[:4] == [(41, 43), (43, 45), (45, 47), (81, 83)]
    end = BuildOptions(clip_seconds=4, holdout_clip_seconds=10, holdout=0.25, gap_seconds=0)
    assert clip_counts(source(1, 80), end) == {"train": 15, "val": 2}
    assert BuildOptions.from_dict(options.as_dict()) == options
    assert "holdout_clip_seconds" not in BuildOptions(clip_seconds=2, **EVERY).as_dict()


def test_options_that_say_nothing_of_stretches_are_recorded_as_they_were() -> None:
    assert "holdout_every" not in BuildOptions(holdout=0.2).as_dict()
    options = BuildOptions(clip_seconds=2, **EVERY)
    assert BuildOptions.from_dict(options.as_dict()) == options


def seconds(
    source: PlannedSource, options: BuildOptions, part: str = ""
) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in cut_source(source, options)[part].clips]


def test_scenes_become_clips_that_cross_no_cut() -> None:
    options = BuildOptions(cut="scenes", clip_seconds=4, min_clip_seconds=1.5, fps=10)
    # scenes of 3, 0.5, 9.6 and 1.4 s
    cuts = (Fraction(3), Fraction(7, 2), Fraction(131, 10))
    film = source(1, Fraction(29, 2), scene_cuts=cuts)
    assert seconds(film, options) == [(0, 3), (3.5, 7.5), (7.5, 11.5), (11.5, 13.1)]
    assert tails(film, options) == 2
    (unit,) = [u for shard in cut_shards([film], "", options) for u in shard]
    assert unit.num_clips == 4
    # a cut between two frames: the frame whose middle comes before it is still the scene's
    film = source(1, 4, scene_cuts=(Fraction(204, 100),))
    assert seconds(film, options) == [(0, 2.0), (2.04, 4.04)]
    film = source(1, 4, scene_cuts=(Fraction(206, 100),))
    assert seconds(film, options) == [(0, 2.1), (2.06, 3.96)]


def test_scenes_are_held_out_by_time_and_by_source() -> None:
    options = BuildOptions(cut="scenes", clip_seconds=4, fps=10, holdout=0.25, gap_seconds=2)
    film = source(1, 40, scene_cuts=tuple(Fraction(n) for n in range(7, 40, 7)))
    assert seconds(film, options, "train")[-2:] == [(21, 25), (25, 28)]
    assert seconds(film, options, "val") == [(30, 34), (35, 39)]
    held_out = [u for shard in cut_shards([film], "val", options) for u in shard]
    assert held_out[0].first_clip == len(seconds(film, options, "train")) == 8


def test_a_units_clips_lie_close_together() -> None:
    """Scenes that are left out between two clips do not make a unit long."""
    options = BuildOptions(cut="scenes", clip_seconds=4, fps=10, seconds_per_unit=10)
    short = [Fraction(4) + Fraction(n) for n in range(21)]
    film = source(1, 32, scene_cuts=tuple(short))
    units = [u for shard in cut_shards([film], "", options) for u in shard]
    assert [[(float(a), float(b)) for a, b in u.clips] for u in units] == [
        [(0, 4)],
        [(24, 28), (28, 32)],
    ]
    assert tails(film, options) == 20


def test_ranges_are_clips_of_their_own_length() -> None:
    options = BuildOptions(cut="ranges", clip_seconds=10, fps=10)
    row: dict[str, Any] = {"start_seconds": Fraction(5), "stop_seconds": Fraction(12)}
    assert seconds(source(1, 60, **row), options) == [(5, 12)]
    row = {"start_seconds": Fraction(5), "stop_seconds": Fraction(28)}
    assert seconds(source(1, 60, **row), options) == [(5, 15), (15, 25), (25, 28)]
    assert seconds(source(1, 27, **row), options) == [(5, 15), (15, 25), (25, 27)]
    assert (
        clips_after_end(source(1, 16, **row), options),
        tails(source(1, 16, **row), options),
    ) == (
        2,
        1,
    )


def test_each_source_keeps_its_own_rate() -> None:
    options = BuildOptions(fps="source", clip_seconds=2)
    for rate, length in ((Fraction(25), 2), (Fraction(30000, 1001), Fraction(60060, 30000))):
        film = source(1, 5, frame_rate=rate)
        assert cut_source(film, options)[""].clips == [(0, length), (length, 2 * length)]
    assert BuildOptions(fps=10).for_source(Fraction(25), (64, 48)).frame_rate == 10


def test_sources_are_held_out_whole_and_always_the_same_ones() -> None:
    options = BuildOptions(clip_seconds=1, holdout=0.25, split_by="source")
    sources = [source(n, 5, f"{n}.mp4") for n in range(400)]
    held_out = {u.source.name for shard in cut_shards(sources, "val", options) for u in shard}
    trained = {u.source.name for shard in cut_shards(sources, "train", options) for u in shard}
    assert not held_out & trained
    assert len(held_out | trained) == 400
    assert 60 < len(held_out) < 140
    fewer = {u.source.name for shard in cut_shards(sources[::2], "val", options) for u in shard}
    assert fewer == held_out & {s.source.name for s in sources[::2]}


def test_options_check_themselves() -> None:
    for wrong, named in (
        ({"clip_seconds": 0.0}, "clip_seconds is 0.0; allowed: 0.5–600"),
        ({"clip_seconds": float("nan")}, "clip_seconds is nan"),
        ({"cut": "scene"}, "cut is 'scene'; allowed: fixed or scenes or ranges"),
        ({"min_clip_seconds": 2.0}, "min_clip_seconds is 2.0; allowed: none; cut is fixed"),
        ({"cut": "scenes", "min_clip_seconds": 11.0}, "min_clip_seconds is 11.0; allowed: above 0"),
        ({"fps": "sorce"}, "fps is 'sorce'; allowed: 1–240 frames a second, or source"),
        ({"fps": 300.0}, "fps is 300.0; allowed: 1–240 frames a second, or source"),
        ({"size": (100, 64)}, "multiples of 16"),
        ({"fit": "squash"}, "fit is 'squash'; allowed: crop or pad"),
        ({"holdout": 1.0}, "holdout is 1.0"),
        ({"holdout": 0.2, "holdout_every": 40}, "holdout is 0.2; allowed: seconds, with"),
        ({"holdout_clip_seconds": 2}, "holdout_clip_seconds is 2; allowed: none; nothing is held"),
        (
            {"holdout": 0.2, "holdout_clip_seconds": 0.1},
            "holdout_clip_seconds is 0.1; allowed: 0.5",
        ),
        (
            {"holdout": 3, "holdout_every": 40, "holdout_clip_seconds": 4},
            "holdout is 3; allowed: seconds, with holdout_every: at least the 4 of a clip",
        ),
        (
            {"holdout": 0.2, "holdout_clip_seconds": 2, "profile": "copy", "fps": "source"},
            "holdout_clip_seconds is 2; allowed: none; video is copied",
        ),
        ({"holdout": 11, "holdout_every": 40}, "holdout_every is 40; allowed: at least 41 s: hold"),
        ({"holdout": 11, "holdout_every": float("nan")}, "holdout_every is nan"),
        ({"holdout": 11, "holdout_every": 90, "split_by": "source"}, "split_by is 'source'"),
        ({"require": ("audio", "motoin")}, "require is"),
        ({"sample_rate_hz": 44100}, "16000 or 24000 or 48000 for flac"),
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
