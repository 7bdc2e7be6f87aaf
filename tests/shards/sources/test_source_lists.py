"""Lists: what their rows say, what is cut of each, and what a list that is wrong is told."""

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.sources.source import Source
from shards.sources.source_lists import is_list, read_lists
from shards.storage.opening import Location
from tests.films import decode_audio, decode_video, onsets, read_number

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64, clips_per_shard=3)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def report(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".build" not in path.parts
    }


def numbers(data_set: Dataset, i: int) -> list[int]:
    """The source frames that a clip shows."""
    frames = decode_video(data_set.read_member(data_set.sample(i), "mp4"))
    return [read_number(frame.to_ndarray()[: frame.height]) for frame in frames]


def test_the_three_forms_say_the_same(tmp_path: Path) -> None:
    rows = [("a/x.mp4", "0.1", "12.5", "dog", ""), ("/far/y.mkv", "", "", "", "a cat, asleep")]
    names = ("path", "start", "stop", "label", "caption")
    table = [names, *rows]
    write(tmp_path / "l.csv", "\n".join(",".join(f'"{c}"' for c in row) for row in table))
    write(tmp_path / "l.tsv", "\ufeff" + "\r\n".join("\t".join(row) for row in table))
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    objects[0] |= {"start": 0.1, "stop": 12.5}  # type: ignore[dict-item]
    write(tmp_path / "l.jsonl", "\n\n".join(json.dumps(o) for o in objects))
    for suffix, lines in (("csv", (2, 3)), ("tsv", (2, 3)), ("jsonl", (1, 3))):
        found = list(read_lists([tmp_path / f"l.{suffix}"]))
        range_of_first = (Fraction(1, 10), Fraction(25, 2))
        where = [f"l.{suffix}:{line}" for line in lines]
        place = Location(str(tmp_path / "a/x.mp4"))
        first = Source("a/x.mp4", place, {"label": "dog"}, *range_of_first, where[0])
        row = {"caption": "a cat, asleep"}
        second = Source("/far/y.mkv", Location("/far/y.mkv"), row, Fraction(0), None, where[1])
        assert found == [first, second]


def test_other_columns_are_metadata_and_names_are_plain(tmp_path: Path) -> None:
    line = {
        "path": "b/../b/./x.mp4",
        "label": 7,
        "caption": None,
        "speaker": {"age": 3},
        "ok": True,
    }
    write(tmp_path / "one/l.jsonl", json.dumps(line))
    (found,) = read_lists([tmp_path / "one/l.jsonl"])
    assert found.name == "b/x.mp4"
    assert found.row == {"label": "7", "metadata": {"speaker": {"age": 3}, "ok": True}}
    # of several lists, names are paths in the folder that holds them all
    write(tmp_path / "two/l.csv", "path\nx.mp4\n../one/b/x.mp4\n")
    (tmp_path / "one/l.jsonl").write_text('{"path": "x.mp4"}')
    names = [s.name for s in read_lists([tmp_path / "one/l.jsonl", tmp_path / "two/l.csv"])]
    assert names == ["one/x.mp4", "two/x.mp4", "one/b/x.mp4"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("l.csv", "", r"has the columns \(none\); it needs path"),
        ("l.csv", "name,label\nx.mp4,a\n", "has the columns name, label; it needs path"),
        ("l.csv", "path,label,label\nx.mp4,a,b\n", "each once"),
        ("l.csv", "path\n", "has no rows"),
        ("l.csv", "path,start\nx.mp4,ten\n", r"l\.csv:2 has the start 'ten'; allowed: seconds"),
        ("l.csv", "path,start\nx.mp4,-1\n", "start '-1'; allowed: seconds from 0 to 604800"),
        ("l.csv", "path,stop\nx.mp4,nan\n", "stop 'nan'"),
        ("l.csv", "path,stop\nx.mp4,1e999999999\n", "stop '1e999999999'"),
        ("l.csv", "path,stop\nx.mp4,0:99\n", "such as 12.5 or 0:01:12.5"),
        ("l.csv", "path,stop\nx.mp4,1:2:3:4\n", "stop '1:2:3:4'"),
        ("l.csv", "path,clips\nx.mp4,none\n", "the clips 'none', which are not json"),
        ("l.jsonl", '{"path": "x.mp4", "clips": []}\n', r"the clips \[\]; write"),
        ("l.jsonl", '{"path": "x.mp4", "clips": [[1, 2]], "end": 3}\n', "and no start and stop"),
        ("l.csv", "path,start,stop\na.mp4,1,2\nx.mp4,5,5\n", r"l\.csv:3 has start 5 and stop 5"),
        ("l.csv", "path,start\nx.mp4,1,2\n", r"l\.csv:2 has more fields than the first line"),
        ("l.csv", 'path\n"x.mp4\n', r"l\.csv:\d is not a row of a table"),
        ("l.csv", "path,start\n,1\n", "the path None"),
        ("l.tsv", "url\nx.mp4\n", "the url 'x.mp4'; write a URL with its protocol"),
        ("l.jsonl", '{"path": "x.mp4"\n', r"l\.jsonl:1 is not a line of json"),
        ("l.jsonl", "\n" + "[" * 100_000, r"l\.jsonl:2 is not a line of json"),
        ("l.jsonl", '{"path": "x.mp4", "start": NaN}\n', "NaN is not a number in json"),
        ("l.jsonl", '{"path": "x.mp4", "stop": true}\n', "the stop True"),
        ("l.jsonl", '{"path": "x.mp4", "stop": 1' + "0" * 4000 + "}\n", "allowed: seconds from"),
        ("l.jsonl", '["x.mp4"]\n', "not an object with a path"),
        ("l.jsonl", '{"path": "x.mp4", "label": ["a"]}\n', r"the label \['a'\]; write a text"),
        ("l.jsonl", '{"path": "x.mp4", "labels": "a"}\n', "the labels 'a'; write a list of texts"),
        ("l.jsonl", '{"path": "x.mp4", "labels": ["a", {}]}\n', r"among its labels \{\}; write"),
        ("l.jsonl", '{"path": "x\\u0000.mp4"}\n', "write a file's path"),
        ("l.csv", "path,start\nx.mp4,1\ny.mp4,1\n./x.mp4,1.0\n", r"l\.csv:4 names 'x\.mp4' with"),
    ],
)
def test_a_list_that_is_wrong_is_refused_before_anything_is_built(
    name: str, text: str, told: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(BuildError, match=told):
        build([write(tmp_path / name, text)], out, OPTIONS)
    assert not out.exists()


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes(b"path\n\xff.mp4\n")
    with pytest.raises(BuildError, match="cannot be read: 'utf-8'"):
        read_lists([tmp_path / "l.csv"])


def test_clips_come_from_the_ranges_alone(film: Callable[..., Path], tmp_path: Path) -> None:
    film("videos/film.mp4", seconds=8)  # 25 frames a second; frame k shows k; a beep each second
    film("videos/two.mkv", seconds=2, container="matroska")
    text = (
        "path,start,stop,label,speaker\n"
        "film.mp4,1.5,3.9,one,Ada\n"  # 2 clips and a tail
        "film.mp4,5,7,two,\n"  # 2 clips
        "two.mkv,,,,Grace\n"  # 2 clips
        "film.mp4,6,9.2,,\n"  # 2 clips; the third would begin where the film ends
        "film.mp4,7.5,8.2,,\n"  # too short
        "film.mp4,8,9,,\n"
        "gone.mp4,,,,\n"
    )
    out = tmp_path / "out"
    summary = build([write(tmp_path / "videos/clips.csv", text)], out, OPTIONS, num_workers=2)
    data_set = Dataset.open(out)
    infos = [data_set.metadata(i) for i in range(len(data_set))]
    assert [(i["source"], i["start_seconds"], i["stop_seconds"]) for i in infos] == [
        ("film.mp4", 1.5, 2.5),
        ("film.mp4", 2.5, 3.5),
        ("film.mp4", 5, 6),
        ("film.mp4", 6, 7),
        ("two.mkv", 0, 1),
        ("two.mkv", 1, 2),
        ("film.mp4", 6, 7),
        ("film.mp4", 7, 8),
    ]
    assert len({i["key"] for i in infos}) == 8
    assert [i.get("label") for i in infos] == ["one"] * 2 + ["two"] * 2 + [None] * 4
    assert [i["metadata"] for i in infos][:5:4] == [{"speaker": "Ada"}, {"speaker": "Grace"}]
    # output frame n shows the source's frame on screen at start + (n + ½) / 10
    for i in (0, 2, 7):
        start = infos[i]["start_seconds"]
        assert numbers(data_set, i) == [int((start + (n + 0.5) / 10) * 25) for n in range(10)]
    beeps = onsets(decode_audio(data_set.read_member(data_set.sample(0), "flac")), 24000)
    assert beeps == pytest.approx([0.5], abs=0.01)  # 2 s on the source's clock

    assert (summary.sources, summary.made, summary.clips) == (7, 4, 8)
    assert summary.skipped_sources == {
        "too short for one clip": 1,
        "the range begins after the source's end": 1,
        "no such file": 1,
    }
    assert summary.skipped_clips == {
        "a tail shorter than a clip": 1,
        "the range goes on after the source's end": 1,
    }
    lines = report(out)
    assert [line["listed"] for line in lines] == [f"clips.csv:{n}" for n in range(2, 9)]
    assert [line["source"] for line in lines][-1] == "gone.mp4"
    assert lines[4]["detail"] == "0.500 s; a clip is 1 s"


@pytest.mark.slow
def test_the_same_list_makes_the_same_bytes_with_any_number_of_workers(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    film("film.mp4", seconds=6)
    film("other.mp4", seconds=3)
    text = "path,start,stop\nfilm.mp4,0.3,2.4\nother.mp4,1,\nfilm.mp4,,3\nfilm.mp4,2,5.5\n"
    clips = write(tmp_path / "clips.csv", text)
    build([clips], tmp_path / "one", OPTIONS, num_workers=1)
    build([clips], tmp_path / "three", OPTIONS, num_workers=3)
    assert digests(tmp_path / "one") == digests(tmp_path / "three")
    assert len(Dataset.open(tmp_path / "one")) == 2 + 2 + 3 + 3


def test_the_end_of_every_range_is_held_out(film: Callable[..., Path], tmp_path: Path) -> None:
    film("film.mp4", seconds=10)
    clips = write(tmp_path / "clips.csv", "path,start,stop\nfilm.mp4,1,5\nfilm.mp4,6,10\n")
    options = BuildOptions(
        clip_seconds=1.0, fps=10, short_side=64, holdout=0.25, gap_seconds=1.0, require=()
    )
    build([clips], tmp_path / "out", options)
    starts = {}
    keys = set()
    for part in ("train", "val"):
        data_set = Dataset.open(tmp_path / "out" / part)
        infos = [data_set.metadata(i) for i in range(len(data_set))]
        starts[part] = [info["start_seconds"] for info in infos]
        keys |= {info["key"] for info in infos}
    assert starts == {"train": [1, 2, 6, 7], "val": [4, 9]}
    assert len(keys) == 6


def test_a_row_without_a_range_is_the_file_as_a_folder_gives_it(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    film("videos/film.mp4", seconds=2)
    build([tmp_path / "videos"], tmp_path / "folder", OPTIONS)
    clips = write(tmp_path / "videos/clips.csv", "path\nfilm.mp4\n")
    build([clips], tmp_path / "list", OPTIONS)
    tars = [(tmp_path / name / "shard-000000.tar").read_bytes() for name in ("folder", "list")]
    assert tars[0] == tars[1]
    # in a folder, the list itself is a file that is no media
    summary = build([tmp_path / "videos"], tmp_path / "both", OPTIONS)
    assert summary.skipped_sources == {"not media: a text file": 1}


def test_a_list_is_told_from_a_video(film: Callable[..., Path], tmp_path: Path) -> None:
    named_like_a_list = film("film.csv", seconds=1.2)
    assert not is_list(named_like_a_list)
    assert is_list(write(tmp_path / "clips.CSV", "path\nfilm.csv\n"))
    assert not is_list(write(tmp_path / "clips.txt", "path\nfilm.csv\n"))
    assert build([named_like_a_list], tmp_path / "out", OPTIONS).clips == 1
    assert build([tmp_path / "clips.CSV"], tmp_path / "out2", OPTIONS).clips == 1


def test_a_list_has_its_own_labels_and_its_own_videos(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    video = film("film.mp4", seconds=1.2)
    clips = write(tmp_path / "clips.csv", "path\nfilm.mp4\n")
    labels = write(tmp_path / "labels.csv", "file,label\nfilm.mp4,x\n")
    with pytest.raises(BuildError, match=r"clips\.csv is given together with folders or videos"):
        build([clips, video], tmp_path / "out", OPTIONS)
    with pytest.raises(BuildError, match="has them in its own column, label"):
        build([clips], tmp_path / "out", OPTIONS, labels=labels)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path, start, stop, label\nx.mp4, 2, 6, dog\n", []),
        ("Path,START,Stop,Label\nx.mp4,2,6,dog\n", ["'Path'", "'START'", "'Stop'", "'Label'"]),
        ("file,start_time,end_time,label\nx.mp4,2,6,dog\n", ["'file' is taken for path"]),
        ("video_path,time_start,time_end,label\nx.mp4,2,6,dog\n", ["'time_end' is taken for stop"]),
        ("path,start,end,label\nx.mp4,0:02,0:00:06,dog\n", ["'end' is taken for stop"]),
        ("path,begin_sec,end-sec,label\nx.mp4,2,6,dog\n", ["'begin_sec' is taken for start"]),
        ('path,clips,label\nx.mp4,"[[2, 6]]",dog\n', []),
    ],
)
def test_names_that_others_write_are_understood_and_said(
    text: str, said: list[str], tmp_path: Path
) -> None:
    notes: list[str] = []
    (found,) = read_lists([write(tmp_path / "l.csv", text)], notes)
    assert found.range_text == "2:6"
    assert found.name == "x.mp4"
    assert found.row == {"label": "dog"}
    for part in said:
        assert any(part in note for note in notes)
    assert len(notes) >= len(said)
    assert bool(notes) == bool(said)


def test_video2datasets_clips_are_a_row_each(tmp_path: Path) -> None:
    line = {"videoLoc": "x", "video_path": "x.mp4", "clips": [[0.5, 2], ["00:00:03.000", "0:5"]]}
    found = list(read_lists([write(tmp_path / "l.jsonl", json.dumps(line))]))
    assert [s.range_text for s in found] == ["1/2:2", "3:5"]
    assert found[0].row == {"metadata": {"videoLoc": "x"}}


@pytest.mark.parametrize(
    "name", ["start_ms", "duration", "strat", "clip_from", "t_segment", "Stopp"]
)
def test_a_name_that_may_be_a_time_is_warned_of(name: str, tmp_path: Path) -> None:
    notes: list[str] = []
    (found,) = read_lists([write(tmp_path / "l.csv", f"path,{name}\nx.mp4,7\n")], notes)
    assert found.stop_seconds is None
    (note,) = notes
    assert f"l.csv: the column {name!r} is kept as metadata, and cuts nothing" in note


def test_usual_columns_and_metadata_are_no_occasion_for_a_word(tmp_path: Path) -> None:
    notes: list[str] = []
    text = "path,start,stop,label,caption,speaker,split,height,fps\nx.mp4,1,2,a,b,c,d,e,f\n"
    list(read_lists([write(tmp_path / "l.csv", text)], notes))
    assert notes == []
