"""Array jobs and their merge; data sets joined where they lie; hostile shard names."""

import json
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shards import BuildError, BuildOptions, Dataset, IndexFormatError
from shards.building.array_part import Portion
from shards.building.build import build
from shards.format.manifest import Manifest, parse_manifest, read_manifest
from shards.maintenance.merge import merge_data_sets, merge_portions
from shards.maintenance.verify import verify
from tests.shards.s3_server import file_system, quick, s3_server
from tests.shards.small import write_data_set

OPTIONS = BuildOptions(
    clip_seconds=1.0, fps=10, short_side=64, clips_per_shard=2, holdout=0.34, gap_seconds=0
)


def contents(*folders: Path) -> dict[str, Any]:
    """Every sample of some data sets: key → its json, and the bytes of its picture."""
    found = {}
    for folder in folders:
        data_set = Dataset.open(folder)
        for i in range(len(data_set)):
            sample = data_set.sample(i)
            found[sample.key] = (data_set.metadata(i), data_set.read_member(sample, "mp4"))
    return found


@pytest.fixture
def videos(film: Callable[..., Path], tmp_path: Path) -> list[Path]:
    for name in ("a", "b", "c"):
        film(f"videos/{name}.mp4", seconds=3)
    (tmp_path / "videos/notes.mp4").write_text("a text")
    return [tmp_path / "videos"]


def test_every_source_is_in_one_portion() -> None:
    names = [f"{n}.mp4" for n in range(1000)]
    portions = [Portion(i, 7) for i in range(1, 8)]
    owners = [[p.number for p in portions if p.has(name)] for name in names]
    assert all(len(found) == 1 for found in owners)
    counts = [sum(found == [i] for found in owners) for i in range(1, 8)]
    assert min(counts) > 100  # 143 on average
    assert Portion.of_folder(Portion(3, 12).folder) == Portion(3, 12)
    for text in ("0/4", "5/4", "1", "a/b", "1/4/2", "-1/4"):
        with pytest.raises(BuildError, match=r"[Pp]art"):
            Portion.parse(text)


@pytest.mark.slow
def test_the_parts_of_an_array_job_become_one_data_set(videos: list[Path], tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    build(videos, whole, OPTIONS)
    with pytest.raises(BuildError, match=r"out has no part-0001-of-…: build parts with --part"):
        merge_portions(out)
    for number in (1, 2, 4, 5):
        build(videos, out, OPTIONS, portion=Portion(number, 5))
    with pytest.raises(BuildError, match=r"lacks 1 of 5 parts: 3/5\. Build them first"):
        merge_portions(out)
    build(videos, out, OPTIONS, portion=Portion(3, 5))
    report = out / "part-0003-of-0005/report.jsonl"
    report.rename(report.with_name("aside"))
    with pytest.raises(BuildError, match=r"part-0003-of-0005 is not finished.*--part 3/5"):
        merge_portions(out)
    report.with_name("aside").rename(report)

    train, val = merge_portions(out)
    assert (train.samples, val.samples, train.data_sets) == (6, 3, 5)
    for part in ("train", "val"):
        assert contents(out / part) == contents(whole / part)
        manifest = read_manifest(out / part)
        assert manifest.build["sources"] == 4
        assert all(s.name.startswith("part-000") for s in manifest.shards)
    assert verify(out).problems == []
    lines = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    expected = [json.loads(line) for line in (whole / "report.jsonl").read_text().splitlines()]
    assert sorted(lines, key=lambda n: n["source"]) == expected
    before = (out / "train/manifest.json").read_bytes()
    merge_portions(out)
    assert (out / "train/manifest.json").read_bytes() == before
    with pytest.raises(BuildError, match="already holds"):
        build(videos, out, OPTIONS)


@pytest.mark.slow
def test_parts_of_different_builds_are_not_merged(videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(videos, out, OPTIONS, portion=Portion(1, 2))
    build(videos, out, replace(OPTIONS, crf=30), portion=Portion(2, 2))
    with pytest.raises(BuildError, match=r"other options than part-0001-of-0002 \(crf is 30 "):
        merge_portions(out)
    build(videos, tmp_path / "more", OPTIONS, portion=Portion(1, 2))
    (videos[0] / "d.mp4").write_text("one more")
    build(videos, tmp_path / "more", OPTIONS, portion=Portion(2, 2))
    with pytest.raises(BuildError, match=r"part-0002-of-0002 was built with other sources than"):
        merge_portions(tmp_path / "more")
    (videos[0] / "d.mp4").unlink()
    for number, label in ((1, "dog"), (2, "cat")):
        (labels := tmp_path / f"{label}.csv").write_text(f"file,label\na.mp4,{label}\n")
        build(videos, tmp_path / "named", OPTIONS, portion=Portion(number, 2), labels=labels)
    with pytest.raises(BuildError, match=r"part-0002-of-0002 was built with other labels than"):
        merge_portions(tmp_path / "named")
    build(videos, tmp_path / "more", OPTIONS, portion=Portion(1, 3))
    with pytest.raises(BuildError, match=r"holds parts of 2 and of 3"):
        merge_portions(tmp_path / "more")


def test_reports_are_joined_without_being_held(tmp_path: Path) -> None:
    """Parts of 40,000 sources each, of which one was made, and 24 MB of report."""
    lines = [b'{"source": "%06d", "detail": "%s"}\n' % (n, b"x" * 280) for n in range(40_000)]
    build_json = {"options": OPTIONS.as_dict() | {"holdout": 0.0}}
    for number in (1, 2):
        folder = write_data_set(tmp_path / Portion(number, 2).folder, 1, 1, first=number)
        (folder / "build.json").write_text(json.dumps(build_json))
        (folder / "report.jsonl").write_bytes(b"".join(lines))
    tracemalloc.start()
    try:
        merge_portions(tmp_path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4e6
    assert (tmp_path / "report.jsonl").read_bytes() == b"".join(lines * 2)


def test_data_sets_are_merged_where_they_lie(tmp_path: Path) -> None:
    one = write_data_set(tmp_path / "all/one")
    two = write_data_set(tmp_path / "all/deep/two", first=6)
    merged = merge_data_sets(tmp_path / "all", [two, one])
    assert (merged.data_sets, merged.shards, merged.samples) == (2, 4, 12)
    data_set = Dataset.open(tmp_path / "all")
    assert data_set.sample(0).shard == "deep/two/shard-000000.tar"
    assert data_set.metadata(0) == {"number": 6}
    assert data_set.metadata(data_set.find("clip-0004")) == {"number": 4}
    assert verify(tmp_path / "all").problems == []
    merge_data_sets(tmp_path / "all", [one])  # again, with others
    assert len(Dataset.open(tmp_path / "all")) == 6
    write_data_set(tmp_path / "all/copy")
    with pytest.raises(BuildError, match=r"Key clip-0000 is in one/shard-000000.tar and in copy/"):
        merge_data_sets(tmp_path / "all", [one, tmp_path / "all/copy"])
    with pytest.raises(
        BuildError, match=r"one does not lie under .*deep; merge into a folder that"
    ):
        merge_data_sets(tmp_path / "all/deep", [one])
    with pytest.raises(BuildError, match=r"given twice: one, one"):
        merge_data_sets(tmp_path / "all", [one, one])
    write_data_set(one / "within", first=20)
    with pytest.raises(
        BuildError, match=r"one is a data set of its own; merge into a folder above"
    ):
        merge_data_sets(one, [one / "within"])


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x.tar", "a/../x.tar", "a//x.tar", "a\\x.tar", "", ".", "a/\n.tar"]
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    folder = write_data_set(tmp_path / "set")
    shards = read_manifest(folder).shards
    Manifest((replace(shards[0], name=name),)).write(folder)
    with pytest.raises(IndexFormatError, match=r"manifest.json is damaged .*shard name"):
        Dataset.open(folder)


def test_a_manifest_holds_sizes_too_and_the_first_version_is_read(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "set")
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["shards"][0]["size"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(IndexFormatError, match="does not agree with its own fingerprint"):
        Dataset.open(folder)
    old = Path(__file__).parent / "manifest-1.json"
    assert parse_manifest(old.read_bytes(), "").num_samples == 6


@pytest.mark.slow
def test_parts_on_s3_are_merged_there(videos: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("moto", reason="moto[server] speaks S3 here")
    build(videos, tmp_path / "whole", OPTIONS)
    with s3_server() as port:
        file_system(port).mkdir("bucket")
        remote = quick(port, cache_folder=str(tmp_path / "cache"))
        for number in (1, 2):
            staging = tmp_path / f"staging-{number}"
            given: dict[str, Any] = {"staging": staging, "remote": remote}
            build(videos, "s3://bucket/x", OPTIONS, portion=Portion(number, 2), **given)
        train, _ = merge_portions("s3://bucket/x", remote)
        assert train.location == "s3://bucket/x/train"
        lines = file_system(port).cat_file("bucket/x/report.jsonl").splitlines()
        expected = (tmp_path / "whole/report.jsonl").read_bytes().splitlines()
        assert sorted(lines) == sorted(expected)
        far = Dataset.open(train.location, remote=remote)
        near = contents(tmp_path / "whole/train")
        assert len(far) == len(near)
        for i in range(len(far)):
            sample = far.sample(i)
            assert near[sample.key] == (far.metadata(i), far.read_member(sample, "mp4"))
