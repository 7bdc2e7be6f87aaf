"""Data sets as `gdt shards build` makes them of mixed sources, read as a run reads them."""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from pipelines.segment import SegmentOptions, SegmentReader
from shards import BuildOptions, DataSet
from shards.build import build
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
    data_set = DataSet.open(tmp_path / "out")
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
