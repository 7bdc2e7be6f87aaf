"""Whole builds with real workers: what comes out, always the same bytes, and who builds where."""

import fcntl
import hashlib
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shards import BuildError, BuildOptions, Dataset
from shards.building.build import build
from shards.maintenance.verify import verify
from tests.films import decode_audio, decode_video, read_number

OPTIONS = BuildOptions(
    clip_seconds=1.0, fps=10, short_side=64, clips_per_shard=3, seconds_per_unit=2.0
)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder that is part of the result."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".build" not in path.parts
    }


@pytest.fixture
def videos(film: Callable[..., Path], tmp_path: Path) -> Path:
    film("videos/a/film.mp4", seconds=5)
    film("videos/b/film.mkv", seconds=2, container="matroska")
    film("videos/b/film.mp4", seconds=2.5)
    film("videos/short.mp4", seconds=0.5)
    film("videos/silent.mp4", seconds=2, audio_codec=None)
    (tmp_path / "videos/notes.mp4").write_text("Dear diary")
    (tmp_path / "videos/.hidden.mp4").write_text("left out")
    return tmp_path / "videos"


def test_a_build_makes_a_data_set_and_accounts_for_every_source(
    videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    seen: list[tuple[str, int, int | None]] = []
    summary = build([videos], out, OPTIONS, num_workers=2, progress=lambda *step: seen.append(step))
    assert (summary.sources, summary.made, summary.clips) == (6, 3, 9)
    assert summary.skipped_sources == {
        "too short for one clip": 1,
        "no audio stream": 1,
        "not media: a text file": 1,
    }
    assert summary.skipped_clips == {"a tail shorter than a clip": 1}
    assert seen[-1] == ("build", 9, 9)
    assert ("probe", 6, None) in seen

    data_set = Dataset.open(out)
    assert len(data_set) == 9
    assert [s.num_samples for s in data_set.manifest.shards] == [3, 3, 3]
    infos = [data_set.metadata(i) for i in range(9)]
    assert [i["source"] for i in infos] == ["a/film.mp4"] * 5 + ["b/film.mkv"] * 2 + [
        "b/film.mp4"
    ] * 2
    assert [i["start_seconds"] for i in infos] == [0, 1, 2, 3, 4, 0, 1, 0, 1]
    assert len({i["key"] for i in infos}) == 9
    sha256 = hashlib.sha256((videos / "a/film.mp4").read_bytes()).hexdigest()
    assert infos[0]["source_sha256"] == sha256
    assert verify(out).problems == []

    report = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    by_name = {line["source"]: line for line in report}
    assert len(report) == len(by_name) == 6
    assert by_name["a/film.mp4"] == {"source": "a/film.mp4", "outcome": "made", "clips": 5}
    assert by_name["notes.mp4"]["stage"] == "open"
    assert by_name["short.mp4"]["detail"] == "0.480 s; a clip is 1 s"
    assert sum(line["clips"] for line in report) == 9


def test_what_was_written_is_what_any_tar_reader_finds(videos: Path, tmp_path: Path) -> None:
    build([videos / "a/film.mp4"], tmp_path / "out", OPTIONS)
    data_set = Dataset.open(tmp_path / "out")
    number = 0
    for shard in data_set.manifest.shards:
        with tarfile.open(tmp_path / "out" / shard.name) as tar:
            entries = tar.getmembers()
            assert {(e.mtime, e.uid, e.gid, e.uname, e.mode) for e in entries} == {
                (0, 0, 0, "", 0o444)
            }
            for i in range(0, len(entries), 3):
                sample = data_set.sample(number)
                for entry in entries[i : i + 3]:
                    key, _, extension = entry.name.partition(".")
                    assert key == sample.key
                    member = sample.members[extension]
                    assert (entry.offset_data, entry.size) == (member.offset, member.size)
                    found = tar.extractfile(entry)
                    assert found is not None
                    assert found.read() == data_set.read_member(sample, extension)
                number += 1
    assert number == len(data_set) == 5


@pytest.mark.slow
def test_webdataset_reads_our_shards(videos: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    build([videos / "a/film.mp4"], tmp_path / "out", OPTIONS)
    shards = sorted(str(p) for p in (tmp_path / "out").glob("*.tar"))
    samples = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    assert [s["__key__"][-5:] for s in samples] == [f"{n:05d}" for n in range(5)]
    for n, sample in enumerate(samples):
        first = decode_video(sample["mp4"])[0]
        assert read_number(first.to_ndarray()[: first.height]) == 25 * n + 1
        assert len(decode_audio(sample["flac"])) == 24000
        assert json.loads(sample["json"])["key"] == sample["__key__"]


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_workers(videos: Path, tmp_path: Path) -> None:
    build([videos], tmp_path / "one", OPTIONS, num_workers=1)
    build([videos], tmp_path / "three", OPTIONS, num_workers=3)
    assert digests(tmp_path / "one") == digests(tmp_path / "three")
    assert len(digests(tmp_path / "one")) == 9  # 3 tars, 3 indexes, manifest, report, build


@pytest.mark.slow
def test_an_interrupted_build_is_continued_to_the_same_bytes(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build([videos], tmp_path / "whole", OPTIONS)

    class Interrupted(BaseException):
        pass

    def stop_at(clips: int) -> Callable[[str, int, int | None], None]:
        def progress(stage: str, done: int, _total: int | None) -> None:
            if stage == "build" and done >= clips > 0:
                raise Interrupted

        return progress

    out = tmp_path / "out"
    for clips in (4, 8):
        with pytest.raises(Interrupted):
            build([videos], out, OPTIONS, progress=stop_at(clips))
        assert not (out / "manifest.json").exists()
        with pytest.raises(BuildError.__base__ or Exception, match=r"has no manifest\.json"):
            Dataset.open(out)
    kept = (out / "shard-000000.tar").stat().st_mtime_ns
    (out / "shard-000001.tar.index").unlink()  # lost with its shard's report still there
    build([videos], out, OPTIONS, num_workers=2)
    assert (out / "shard-000000.tar").stat().st_mtime_ns == kept
    assert digests(out) == digests(tmp_path / "whole")
    assert {p.name for p in (out / ".build").iterdir()} == {"lock", "plan.jsonl.gz"}


def test_a_finished_build_is_left_as_it_is(videos: Path, tmp_path: Path) -> None:
    first = build([videos], tmp_path / "out", OPTIONS)
    plan = tmp_path / "out/.build/plan.jsonl.gz"
    kept = plan.read_bytes()
    plan.unlink()  # as if the build was killed at its very end
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.is_file()}
    again = build([videos], tmp_path / "out", OPTIONS)
    assert again.already_built
    assert plan.read_bytes() == kept
    assert (again.clips, again.skipped_sources) == (first.clips, first.skipped_sources)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir() if p.is_file()} == before


def test_a_target_holds_one_build(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build([videos / "b/film.mp4"], out, OPTIONS)
    with pytest.raises(
        BuildError, match="already holds another build: its crf is 20, this build's"
    ):
        build([videos / "b/film.mp4"], out, BuildOptions(**{**_options(), "crf": 30}))
    with pytest.raises(BuildError, match="already holds a build of other sources"):
        build([videos / "b/film.mkv"], out, OPTIONS)


def _options() -> dict[str, Any]:
    return {**OPTIONS.as_dict(), "size": None, "require": ("audio",)}


def test_two_builders_cannot_share_a_target(videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / ".build").mkdir(parents=True)
    lock = os.open(out / ".build/lock", os.O_RDWR | os.O_CREAT)
    os.write(lock, b"4242\n")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        with pytest.raises(BuildError, match=r"Another builder \(process 4242\) is at work on"):
            build([videos], out, OPTIONS)
    finally:
        os.close(lock)
    assert build([videos / "b/film.mp4"], out, OPTIONS).clips == 2


def test_a_target_with_other_files_is_left_alone(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"already holds other files \(.hidden.mp4, a, b, "):
        build([videos], videos, OPTIONS)
    assert not (videos / ".build").exists()
    with pytest.raises(BuildError, match=r"short\.mp4 is a file"):
        build([videos], videos / "short.mp4", OPTIONS)


def test_nothing_is_left_of_a_build_without_a_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match="hold no file"):
        build([tmp_path / "empty"], tmp_path / "out", OPTIONS)
    assert not (tmp_path / "out").exists()
    with pytest.raises(BuildError, match="nowhere does not exist; check the path"):
        build([tmp_path / "nowhere"], tmp_path / "out", OPTIONS)


def test_the_target_may_lie_within_the_sources(videos: Path) -> None:
    summary = build([videos], videos / "shards", OPTIONS)
    again = build([videos], videos / "shards", OPTIONS)
    assert (again.sources, again.already_built) == (summary.sources, True)


def test_train_and_held_out_parts(videos: Path, tmp_path: Path) -> None:
    options = BuildOptions(**{**_options(), "holdout": 0.4, "gap_seconds": 0.5})
    summary = build([videos / "a/film.mp4"], tmp_path / "out", options)
    assert summary.clips_by_part == {"train": 2, "val": 2}
    train, val = Dataset.open(tmp_path / "out/train"), Dataset.open(tmp_path / "out/val")
    assert train.metadata(len(train) - 1)["stop_seconds"] <= 3 - 0.5
    assert val.metadata(0)["start_seconds"] >= 3
    assert {train.sample(i).key for i in range(2)}.isdisjoint({val.sample(0).key})
    assert verify(tmp_path / "out").shards == 2


def test_held_out_stretches_are_built_and_continued(videos: Path, tmp_path: Path) -> None:
    every = {"clip_seconds": 0.5, "holdout_every": 2.5, "holdout": 0.5, "gap_seconds": 0.5}
    options = BuildOptions(**{**_options(), **every})
    film, out = videos / "a/film.mp4", tmp_path / "out"
    summary = build([film], out, options)
    starts = {
        part: [data.metadata(i)["start_seconds"] for i in range(len(data))]
        for part in ("train", "val")
        for data in [Dataset.open(out / part)]
    }
    assert starts == {"train": [0, 0.5, 2.5, 3.0], "val": [1.5, 4.0]}
    assert summary.clips_by_part == {"train": 4, "val": 2}
    assert build([film], out, options).already_built
    other = BuildOptions(**{**_options(), **every, "holdout_every": 3.0})
    with pytest.raises(BuildError, match=r"holdout_every.* 2\.5.* 3\.0"):
        build([film], out, other)
    assert verify(out).problems == []


def test_labels_reach_the_samples(videos: Path, tmp_path: Path) -> None:
    table = videos / "labels.csv"
    table.write_text(
        "file,label,caption,colour\na/film.mp4,cat,a cat,red\nfilm.mkv,dog,,\ngone.mp4,bird,,\n"
    )
    summary = build([videos], tmp_path / "out", OPTIONS, labels=table)
    assert summary.sources == 6  # the table itself is no source
    assert (summary.labels_without_source, summary.first_labels) == (1, ["gone.mp4"])
    data_set = Dataset.open(tmp_path / "out")
    first, other, bare = (data_set.metadata(i) for i in (0, 5, 8))
    assert (first["label"], first["caption"], first["metadata"]) == (
        "cat",
        "a cat",
        {"colour": "red"},
    )
    assert (other["label"], other["metadata"], "caption" in other) == ("dog", {}, False)
    assert "label" not in bare


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("name,label\na,b\n", "has the columns name, label; it needs file and label"),
        ("", r"has the columns \(none\)"),
        ("file,label\na.mp4,x\na.mp4,y\n", "names 'a.mp4' twice"),
    ],
)
def test_a_wrong_labels_file_is_refused(
    videos: Path, tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(BuildError, match=complaint):
        build([videos], tmp_path / "out", OPTIONS, labels=tmp_path / "labels.csv")


def test_several_sources_are_named_from_where_they_meet(videos: Path, tmp_path: Path) -> None:
    given = [videos / "b", videos / "a/film.mp4"]
    build(given, tmp_path / "out", OPTIONS)
    data_set = Dataset.open(tmp_path / "out")
    found = {data_set.metadata(i)["source"] for i in range(len(data_set))}
    assert found == {"a/film.mp4", "b/film.mkv", "b/film.mp4"} or found == {
        "film.mp4",
        "b/film.mkv",
        "b/film.mp4",
    }
    summary = build([*given, videos], tmp_path / "other", OPTIONS)
    assert (summary.sources, summary.repeated.total()) == (6, 3)
