"""The lines of a plan: as every version has written them, and read back."""

import gzip
import json
from fractions import Fraction
from pathlib import Path

import pytest

from shards import BuildError
from shards.building.planned_source import PlannedSource, read_plan
from shards.format.json_text import jsonl_bytes
from shards.storage.opening import Location

#: as the first version wrote them: builds that it began go on, and those it finished are repaired
LINES = r"""
{"clips": 12, "duration_seconds": "1001/30", "frame_rate": "30000/1001", "has_audio": true, "height": 96, "listed": "clips.csv:3", "location": ["/films/a.tar", 512, 4000], "name": "a", "number": 1, "origin": "1/25", "range": ["5:21/2", "5", "21/2"], "row": {"label": "dog"}, "scene_cuts": ["6", "13/2"], "size": 4000, "skipped_clips": {"a tail shorter than a clip": 1}, "version": "99", "width": 128}
{"borders": ["0", "1/2", "1"], "clips": 1, "duration_seconds": "4", "frame_rate": "25", "has_audio": false, "height": 96, "location": ["/films/b.mp4"], "name": "b.mp4", "number": 2, "origin": "0", "row": {}, "size": 9, "version": "", "width": 96}
{"duration_seconds": "4", "frame_rate": "25", "has_audio": true, "height": 96, "location": ["/films/c.mp4"], "name": "c.mp4", "number": 3, "origin": "0", "range": ["1:", "1"], "row": {}, "size": 9, "skip": ["cut", "too short for one clip", "3.000 s; a clip is 4 s"], "version": "7", "width": 96}
{"location": ["/films/d.mp4"], "name": "d.mp4", "number": 4, "skip": ["open", "an empty file", "0 bytes"]}
""".strip()  # noqa: E501


def test_a_clock_that_jumps_is_written_down() -> None:
    line = json.loads(LINES.splitlines()[1]) | {"clock_jumps": True}
    planned = PlannedSource.from_json(line)
    assert planned.found.probe.clock_jumps
    assert planned.to_json() == line


def test_a_line_is_read_and_written_as_it_was() -> None:
    plan = [PlannedSource.from_json(json.loads(line)) for line in LINES.splitlines()]
    assert jsonl_bytes(p.to_json() for p in plan).decode().splitlines() == LINES.splitlines()


def test_what_a_line_says(tmp_path: Path) -> None:
    path = tmp_path / "plan.jsonl.gz"
    path.write_bytes(gzip.compress(LINES.encode()))
    first, copied, short, empty = read_plan(path)
    assert first.source.location == Location("/films/a.tar", 512, 4000)
    assert (first.source.row, first.source.listed) == ({"label": "dog"}, "clips.csv:3")
    assert first.span == (Fraction(5), Fraction(21, 2))
    assert (first.clips, first.skipped_clips) == (12, {"a tail shorter than a clip": 1})
    assert first.found.probe.frame_rate == Fraction(30000, 1001)
    assert first.found.scene_cuts == (Fraction(6), Fraction(13, 2))
    assert copied.found.cut_points == (Fraction(0), Fraction(1, 2), Fraction(1))
    assert short.clips == 0
    assert short.span == (Fraction(1), Fraction(4))
    assert short.skip is not None
    assert (empty.survey, empty.skip) == (None, ("open", "an empty file", "0 bytes"))
    with pytest.raises(ValueError, match=r"d\.mp4 was skipped before it was surveyed"):
        _ = empty.span


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (LINES.splitlines()[0].replace("scene_cuts", "cuts"), "unknown field cuts"),
        (LINES.splitlines()[0].replace('"height": 96, ', ""), "missing 1 required .* 'height'"),
        (LINES.splitlines()[0].replace("1001/30", "?"), "Invalid literal for Fraction"),
        (LINES.splitlines()[0][:-9], "JSONDecodeError"),
    ],
)
def test_a_line_that_is_damaged_or_of_another_version_is_refused(
    line: str, wrong: str, tmp_path: Path
) -> None:
    (tmp_path / "plan.jsonl").write_text(line)
    with pytest.raises(
        BuildError, match=rf"plan\.jsonl is damaged or of another version .*{wrong}"
    ):
        list(read_plan(tmp_path / "plan.jsonl"))


def test_a_packed_plan_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.jsonl.gz").write_bytes(gzip.compress(LINES.encode())[:-20])
    with pytest.raises(BuildError, match="damaged or of another version"):
        list(read_plan(tmp_path / "plan.jsonl.gz"))
