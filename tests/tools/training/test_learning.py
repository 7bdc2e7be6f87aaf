"""The whole road, command by command, learns: held-out retrieval far above chance."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.evaluation.result import Evaluation

CONFIG = Path(__file__).parents[3] / "configs" / "synthetic.toml"
GDT = "from tools.cli import app; app()"
TIMES_CHANCE = 10  # where it comes to 17 and 18; after 120 steps, to 8 and 12


def gdt(folder: Path, *arguments: str) -> None:
    """Runs one `gdt` command in a process of its own, as a person does."""
    # one thread: the other core belongs to other tests
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    # -P: the folder holds a `shards` of its own
    command = [sys.executable, "-P", "-c", GDT, *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"gdt {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow(seconds=140)
@pytest.mark.timeout(1200)
def test_held_out_retrieval_is_ten_times_chance_both_ways(tmp_path: Path) -> None:
    smaller = ("--videos", "192", "--val-videos", "64", "--seconds", "2.5", "--size", "64")
    gdt(tmp_path, "samples", "synthetic", "--out", "videos", "--seed", "0", *smaller)
    for part in ("train", "val"):
        build = ("--clip-seconds", "2.5", "--size", "64x64", "--labels", "videos/labels.csv")
        gdt(tmp_path, "shards", "build", f"videos/{part}", "--out", f"shards/{part}", *build)
    changes = ("data.shards=shards/train", "segment.num_frames=4", "trainer.max_steps=180")
    settings = (word for change in changes for word in ("--set", change))
    gdt(tmp_path, "pretrain", str(CONFIG), *settings, "--out", "run")
    gdt(tmp_path, "evaluate", "retrieval", "--run", "run", "--shards", "shards/val")

    (path,) = (tmp_path / "run" / "evaluation" / "retrieval").glob("*/metrics.json")
    written = Evaluation.read(path)
    assert written.data["test"].clips >= 60
    for direction in ("audio → video", "video → audio"):
        found, chance = (
            written.value(*asked) for asked in ((direction, "R@1"), ("same clip", "R@1", "chance"))
        )
        assert found >= TIMES_CHANCE * chance, (direction, written.scores)
