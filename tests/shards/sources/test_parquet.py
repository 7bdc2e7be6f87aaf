"""Parquet lists, written by pyarrow, against the same list in json."""

import json
from pathlib import Path
from typing import Any

import pytest

from shards import BuildError
from shards.sources.parquet import BATCH_ROWS
from shards.sources.source_lists import is_list, read_lists

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS: list[dict[str, Any]] = [
    {
        "path": "a.mp4",
        "start": 0.1,
        "stop": 12,
        "label": "dog",
        "labels": ["dog", "park"],
        "about": {"who": "Ada", "ages": [3, None]},
        "ok": True,
    },
    {"path": "http://host/é.mp4", "start": None, "caption": "räder", "about": None, "ok": False},
]


def write(path: Path, rows: list[dict[str, Any]], **more: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, **more), path)
    return path


def test_parquet_says_what_json_says(tmp_path: Path) -> None:
    columns = {name: None for row in ROWS for name in row}
    path = write(tmp_path / "l.parquet", [columns | row for row in ROWS])
    (tmp_path / "l.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    assert is_list(path)
    ours, theirs = list(read_lists([path])), list(read_lists([tmp_path / "l.jsonl"]))
    assert [s.listed for s in ours] == ["l.parquet:1", "l.parquet:2"]
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine.name, mine.location, mine.start_seconds, mine.stop_seconds) == (
            *(other.name, other.location, other.start_seconds, other.stop_seconds),
        )
        row = json.loads(json.dumps(mine.row))
        if mine is ours[0]:
            assert row == other.row
    # a struct that is null in a row is left out there, as in json
    assert ours[1].row == {"caption": "räder", "metadata": {"ok": False}}


def test_dictionaries_and_small_types_are_plain(tmp_path: Path) -> None:
    table = pa.table(
        {
            "path": pa.array(["a.mp4", "b.mp4"]).dictionary_encode(),
            "start": pa.array([1, None], pa.int8()),
            "stop": pa.array([2.5, 3.5], pa.float32()),
            "big": pa.array(["x", ""], pa.large_string()),
        }
    )
    pq.write_table(table, tmp_path / "l.parquet")
    found = list(read_lists([tmp_path / "l.parquet"]))
    assert [s.name for s in found] == ["a.mp4", "b.mp4"]
    assert [float(s.start_seconds) for s in found] == [1, 0]
    assert [s.row for s in found] == [{"metadata": {"big": "x"}}, {}]


def test_errors_name_the_row(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"path": f"{n}.mp4", "start": 0.0} for n in range(3000)]
    rows[2 * BATCH_ROWS + 5]["start"] = -1.0
    path = write(tmp_path / "l.parquet", rows)
    with pytest.raises(BuildError, match=rf"l\.parquet:{2 * BATCH_ROWS + 6} has the start -1\.0"):
        read_lists([path])
    rows[2 * BATCH_ROWS + 5]["start"] = float("nan")
    with pytest.raises(BuildError, match=rf"l\.parquet:{2 * BATCH_ROWS + 6} has a number that is"):
        read_lists([write(path, rows)])
    rows[2 * BATCH_ROWS + 5] |= {"start": 0.0, "path": "7.mp4"}
    with pytest.raises(BuildError, match=r"l\.parquet:2054 names '7\.mp4' with the same range"):
        read_lists([write(path, rows)])


@pytest.mark.parametrize(
    "kind",
    ["timestamp[us]", "binary", "decimal", "map", "list<binary>", "uuid", "half_float", "duration"],
)
def test_types_without_plain_json_are_refused(kind: str, tmp_path: Path) -> None:
    kinds = {
        "timestamp[us]": pa.timestamp("us"),
        "binary": pa.binary(),
        "decimal": pa.decimal128(5, 2),
        "map": pa.map_(pa.string(), pa.string()),
        "list<binary>": pa.list_(pa.binary()),
        "uuid": pa.uuid(),
        "half_float": pa.float16(),
        "duration": pa.duration("s"),
    }
    nothing = pa.nulls(1, kinds[kind]) if kind != "uuid" else pa.array([None], pa.uuid())
    pq.write_table(pa.table({"path": ["a.mp4"], "x": nothing}), tmp_path / "l.parquet")
    with pytest.raises(BuildError, match=r"column x is of type .*; allowed: texts.*Cast or drop"):
        read_lists([tmp_path / "l.parquet"])


def test_what_is_no_table_of_videos_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.parquet"
    path.write_bytes(b"PAR1 and no more")
    with pytest.raises(BuildError, match="cannot be read"):
        read_lists([path])
    write(path, [{"colour": "red"}])
    with pytest.raises(BuildError, match="has the columns colour; it needs path"):
        read_lists([path])
    write(path, [{"path": 3}])
    with pytest.raises(BuildError, match=r"l\.parquet:1 has the path 3; write"):
        read_lists([path])
    good = write(path, [{"path": f"{n}.mp4"} for n in range(5000)]).read_bytes()
    path.write_bytes(good[:100] + bytes(200) + good[300:])
    with pytest.raises(BuildError, match="cannot be read"):
        read_lists([path])
