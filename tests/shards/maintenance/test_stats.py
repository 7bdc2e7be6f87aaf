"""Counts held against the samples themselves, here and on S3."""

import json
from pathlib import Path

import pytest

from shards import Dataset
from shards.maintenance.stats import stats
from tests.shards.s3_server import file_system, quick, s3_server
from tests.shards.small import write_data_set


def test_train_and_val_are_counted_together(tmp_path: Path) -> None:
    train = write_data_set(tmp_path / "set/train")
    val = write_data_set(tmp_path / "set/val", first=6, num_shards=1)
    lines = [
        {"source": "a", "clips": 9, "outcome": "made", "skipped_clips": {"no sound": 2}},
        {"source": "b", "clips": 0, "outcome": "skipped", "cause": "an empty file"},
    ]
    report = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "set/report.jsonl").write_text(report)
    steps: list[tuple[int, int]] = []
    found = stats(tmp_path / "set", progress=lambda *step: steps.append(step))
    assert steps[-1] == (9, 9)
    samples = [
        sample
        for data_set in map(Dataset.open, (train, val))
        for sample in map(data_set.sample, range(len(data_set)))
    ]
    assert (found.samples, found.shards) == (9, 3)
    assert found.seconds == pytest.approx(9.0)
    assert found.bytes == sum(p.stat().st_size for p in tmp_path.rglob("*.tar"))
    assert found.video_bytes == sum(s.members["mp4"].size for s in samples)
    assert found.clip_bytes.tolist() == [sum(m.size for m in s.members.values()) for s in samples]
    assert found.coded_sizes == {"112×64": 9}
    assert found.sample_rates == {"24000 Hz × 1": 9}
    assert (found.skipped_sources, found.skipped_clips) == ({"an empty file": 1}, {"no sound": 2})
    assert stats(train).skipped_clips == {"no sound": 2}
    (tmp_path / "set/report.jsonl").unlink()
    assert stats(train).skipped_clips == {}


def test_from_s3_the_numbers_are_the_same(tmp_path: Path) -> None:
    pytest.importorskip("moto", reason="moto[server] speaks S3 here")
    folder = write_data_set(tmp_path / "set")
    with s3_server() as port:
        fs = file_system(port)
        fs.mkdir("bucket")
        fs.put(str(folder), "bucket/set", recursive=True)
        fs.put(str(folder), "bucket/build/train", recursive=True)
        fs.put(str(folder), "bucket/build/val", recursive=True)
        remote = quick(port, cache_folder=str(tmp_path / "cache"))
        far = stats("s3://bucket/set", remote=remote)
        both = stats("s3://bucket/build", remote=remote)
    near = stats(folder)
    assert (both.samples, both.location) == (2 * near.samples, "s3://bucket/build")
    assert far.as_dict() | {"location": ""} == near.as_dict() | {"location": ""}
    assert far.location == "s3://bucket/set"
