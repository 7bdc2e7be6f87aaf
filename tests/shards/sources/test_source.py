"""What is said of a source reaches its samples' json: a label, several, a caption, all the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.sources.labels import Labels
from shards.sources.source import Source, row_of
from shards.sources.source_lists import read_lists
from shards.storage.opening import Location
from tests.shards.sources.test_source_lists import write

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64)
ROW = {"label": "dog", "labels": ["dog", "a park"], "metadata": {"speaker": "Ada"}}
TABLE = "{0},label,labels,speaker\na.mp4,dog,dog; a park;,Ada\n"


def test_texts_are_sorted_out() -> None:
    assert row_of({"label": 7, "labels": [1, "b"], "caption": "", "x": None, "y": {"z": 1}}) == {
        "label": "7",
        "labels": ["1", "b"],
        "metadata": {"y": {"z": 1}},
    }
    for wrong in ({"label": True}, {"caption": 1.5}, {"labels": "a"}, {"labels": [None]}):
        with pytest.raises(ValueError, match="; write a "):
            row_of(wrong)


def test_every_form_says_the_same(film: Callable[..., Path], tmp_path: Path) -> None:
    film("a.mp4", seconds=1.2)
    table = write(tmp_path / "l.csv", TABLE.format("path"))
    line = json.dumps({"path": "a.mp4", "label": "dog", "labels": ROW["labels"], "speaker": "Ada"})
    lines = write(tmp_path / "l.jsonl", line)
    assert [s.row for s in read_lists([table])] == [ROW] == [s.row for s in read_lists([lines])]

    def info(out: str, *given: Path, **more: Any) -> dict[str, Any]:
        build(given, tmp_path / out, OPTIONS, **more)
        return Dataset.open(tmp_path / out).metadata(0)

    labels = write(tmp_path / "labels.csv", TABLE.format("file"))
    found = info("list", table)
    assert {name: found[name] for name in ROW} == ROW
    assert info("lines", lines) == found
    assert info("labels", tmp_path / "a.mp4", labels=labels) == found


def test_a_labels_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for text, told in (
        ("file,label\na.mp4,x\na.mp4,y\n", "names 'a.mp4' twice"),
        ("file,other\n", "needs file and label"),
        ("", r"has the columns \(none\)"),
        ('file,label\n"' + "a" * 200_000 + '",x\n', "cannot be read: field larger"),
    ):
        with pytest.raises(BuildError, match=told):
            Labels(write(tmp_path / "labels.csv", text))


def test_a_row_that_ends_before_its_file_labels_nothing(tmp_path: Path) -> None:
    labels = Labels(write(tmp_path / "labels.csv", "label,file\ndog\ncat,a.mp4\n"))
    assert labels.of(Source("a.mp4", Location("/a.mp4")))["label"] == "cat"
    assert labels.without_source() == (1, [""])


def test_labels_without_a_source_are_counted_but_not_those_of_another_split(
    tmp_path: Path,
) -> None:
    (tmp_path / "test").mkdir()
    names = ["train/a.mp4", *(f"test/{n}.mp4" for n in range(30))]
    for name in names[1:]:
        write(tmp_path / name, "")
    gone = [f"train/{n:03d}.mp4" for n in range(250)] + ["x" * 5000]
    rows = "".join(f"{name},x\n" for name in names + gone)
    labels = Labels(write(tmp_path / "labels.csv", f"file,label\n{rows}"))
    source = Source("a.mp4", Location(str(tmp_path / "train/a.mp4")))
    assert labels.of(source) == {"label": "x"}
    assert labels.without_source() == (251, gone[:5])
