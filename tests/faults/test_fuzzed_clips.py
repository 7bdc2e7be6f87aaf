"""Damaged clips through index, training and build: no error escapes, and no sibling is lost.

`FUZZED_CLIPS=1600 pytest tests/faults/test_fuzzed_clips.py` takes more of them.
"""

import io
import json
import os
import random
import tarfile
from pathlib import Path

import pytest

from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.evaluation import evaluation_batches
from pipelines.skips import SkipLog
from shards import BuildOptions, Dataset
from shards.building.build import build
from shards.maintenance.index_tars import index_tars
from tests.faults.damage import damaged, films

NUM_CLIPS = int(os.environ.get("FUZZED_CLIPS", "160"))
SIBLINGS_EVERY = 8  # damaged clips, one is whole
SEGMENT = SegmentOptions(
    seconds=0.5, num_frames=4, sample_rate_hz=16_000, frame_size=(64, 64), decoder="av"
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """By name; those whose name begins with "whole" are."""
    forms = films(tmp_path_factory.mktemp("films"), seconds=2, size=(96, 64))
    made = {}
    for number in range(NUM_CLIPS):
        form = forms[number % len(forms)]
        made[f"damaged-{number:04d}"] = damaged(form, random.Random(f"clip {number}"))
        if number % SIBLINGS_EVERY == 0:
            made[f"whole-{number:04d}"] = forms[0]
    return made


def whole(names: object) -> set[str]:
    return {str(name) for name in names if str(name).startswith("whole")}  # type: ignore[attr-defined]


@pytest.mark.slow(seconds=30)
def test_index_and_training_skip_what_is_damaged_and_nothing_else(
    clips: dict[str, bytes], tmp_path: Path
) -> None:
    names = list(clips)
    (tmp_path / "tars").mkdir()
    for number, first in enumerate(range(0, len(names), 60)):
        with tarfile.open(tmp_path / f"tars/{number:03d}.tar", "w") as tar:
            for name in names[first : first + 60]:
                entry = tarfile.TarInfo(f"{name}.mp4")
                entry.size = len(clips[name])
                tar.addfile(entry, io.BytesIO(clips[name]))
    indexed = index_tars([tmp_path / "tars"], num_workers=2)
    assert not indexed.skipped_tars
    assert indexed.samples + sum(indexed.skipped.values()) == len(names)
    dataset = Dataset.open(tmp_path / "tars")
    keys = [dataset.sample(i).key for i in range(len(dataset))]
    assert whole(keys) == whole(names)
    for modality in ("video", "audio"):
        log = SkipLog(most_share=1.0, most_in_a_row=len(keys) + 1)
        batches = evaluation_batches(dataset, (modality,), SEGMENT, 3, skip_log=log)
        seen = {key for batch in batches for key in batch.keys}
        assert whole(seen) == whole(names), modality
        assert log.seen.total == len(keys)


@pytest.mark.slow(seconds=60)
@pytest.mark.parametrize("profile", ["copy", "fast"])
def test_a_build_leaves_out_what_is_damaged_and_nothing_else(
    clips: dict[str, bytes], tmp_path: Path, profile: str
) -> None:
    (tmp_path / "videos").mkdir()
    for name, data in clips.items():
        (tmp_path / f"videos/{name}.mp4").write_bytes(data)
    source = {"size": "source", "fps": "source"} if profile == "copy" else {"short_side": 64}
    options = BuildOptions(profile=profile, clip_seconds=1.0, require=(), **source)
    summary = build([tmp_path / "videos"], tmp_path / "out", options, num_workers=2)
    lines = (tmp_path / "out/report.jsonl").read_text().splitlines()
    made = {line["source"]: line["clips"] for line in map(json.loads, lines)}
    assert set(made) == {f"{name}.mp4" for name in clips}
    assert all(made[f"{name}.mp4"] == 2 for name in whole(clips))
    assert not [cause for cause in summary.skipped_sources if "worker" in cause]
