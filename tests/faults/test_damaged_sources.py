"""Films damaged at random, built in every way: each is accounted for, and what is made is sound."""

import json
import random
from pathlib import Path

import pytest

from shards import BuildOptions
from shards.building.build import build
from shards.maintenance.verify import verify
from tests.faults.damage import damaged, films

COPIED = BuildOptions(profile="copy", size="source", fps="source", clip_seconds=1.0)
SCENES = BuildOptions(
    cut="scenes", clip_seconds=1.0, min_clip_seconds=0.2, fps="source", short_side=64,
    require=("audible", "motion"),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("options", [COPIED, SCENES], ids=["copied", "scenes"])
def test_every_damaged_video_is_accounted_for(tmp_path: Path, options: BuildOptions) -> None:
    dice = random.Random(5)
    (tmp_path / "videos").mkdir()
    whole = films(tmp_path, seconds=4, size=(96, 64))[:4]
    for number in range(16):
        path = tmp_path / f"videos/{number:02d}.mp4"
        path.write_bytes(damaged(whole[number % len(whole)], dice))
    summary = build([tmp_path / "videos"], tmp_path / "out", options, num_workers=2)
    lines = [json.loads(line) for line in (tmp_path / "out/report.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == [f"{n:02d}.mp4" for n in range(16)]
    assert sum(line["clips"] for line in lines) == summary.clips > 16
    assert summary.made + sum(summary.skipped_sources.values()) == 16
    assert not [cause for cause in summary.skipped_sources if cause.startswith("worker")]
    assert verify(tmp_path / "out").problems == []
