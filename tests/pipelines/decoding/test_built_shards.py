"""Data sets as `gdt shards build` makes them of mixed sources, read as a run reads them."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from shards import BuildOptions, Dataset
from shards.building.build import build
from tests.films import read_number

RATES = {"a.mp4": Fraction(25), "b.mkv": Fraction(24000, 1001), "c.mp4": Fraction(15)}


def test_sources_that_keep_their_own_rates_are_read_by_time(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    for name, rate in RATES.items():
        container = "matroska" if name.endswith("mkv") else "mp4"
        film(f"videos/{name}", seconds=4.2, fps=rate, container=container)
    options = BuildOptions(fps="source", clip_seconds=2.0, short_side=64)
    build([tmp_path / "videos"], tmp_path / "out", options)
    data_set = Dataset.open(tmp_path / "out")
    assert len(data_set) == 6
    reader = SegmentReader(data_set, SegmentOptions(num_frames=20, decoder="av"))
    for i in range(6):
        info = data_set.metadata(i)
        rate = RATES[info["source"]]
        assert info["frame_rate"] == pytest.approx(float(rate), abs=1e-9)
        assert info["num_frames"] == round(2 * rate)
        for segment in reader.segments(i, [0.0, 0.437]):
            assert segment.video is not None
            start = info["start_seconds"] + segment.start_seconds
            planes = segment.video.reshape(20, -1, segment.width)
            shown = [read_number(frame[: segment.height]) for frame in planes]
            wanted = [math.floor((start + (k + 0.5) / 20) * rate + 1e-6) for k in range(20)]
            assert shown == wanted


def test_the_ranges_of_a_list_are_clips_of_their_own_lengths(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film("a.mp4", seconds=6)
    rows = f"path,start,stop,caption\n{path},0.4,1.9,short\n{path},2,5.4,long\n{path},5,5.5,tiny\n"
    (tmp_path / "list.csv").write_text(rows)
    options = BuildOptions(
        cut="ranges", clip_seconds=2.0, min_clip_seconds=1.0, fps=25, short_side=64
    )
    summary = build([tmp_path / "list.csv"], tmp_path / "out", options)
    data_set = Dataset.open(tmp_path / "out")
    infos = [data_set.metadata(i) for i in range(len(data_set))]
    assert [(i["caption"], i["start_seconds"], i["stop_seconds"]) for i in infos] == [
        ("short", 0.4, 1.9 + 0.02),  # a frame whose middle comes before the end is in it
        ("long", 2.0, 4.0),
        ("long", 4.0, 5.4),
    ]
    assert summary.skipped_sources == {"too short for one clip": 1}
    reader = SegmentReader(data_set, SegmentOptions(num_frames=25, decoder="av"))
    for i, info in enumerate(infos):
        (segment,) = reader.segments(i, [info["duration_seconds"] - 1])
        assert segment.video is not None
        planes = segment.video.reshape(25, -1, segment.width)
        first = round((info["stop_seconds"] - 1) * 25)
        assert [read_number(p[: segment.height]) for p in planes] == [*range(first, first + 25)]
