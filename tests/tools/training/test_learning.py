"""The whole road, command by command, learns: held-out retrieval far above chance."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.evaluation.result import Evaluation

CONFIG = Path(__file__).parents[3] / "configs" / "synthetic.toml"
GDT = "from tools.cli import app; app()"
TIMES_CHANCE = 10


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


@pytest.mark.slow(seconds=190)
@pytest.mark.timeout(1200)
def test_held_out_retrieval_is_ten_times_chance_both_ways(tmp_path: Path) -> None:
    gdt(tmp_path, "samples", "synthetic", "--out", "videos", "--seed", "0")
    for part in ("train", "val"):
        build = ("--clip-seconds", "4", "--size", "96x96", "--labels", "videos/labels.csv")
        gdt(tmp_path, "shards", "build", f"videos/{part}", "--out", f"shards/{part}", *build)
    shards = "data.shards=shards/train"
    gdt(tmp_path, "pretrain", str(CONFIG), "--set", shards, "--out", "run")
    gdt(tmp_path, "evaluate", "retrieval", "--run", "run", "--shards", "shards/val")

    (path,) = (tmp_path / "run" / "evaluation" / "retrieval").glob("*/metrics.json")
    written = Evaluation.read(path)
    assert written.data["test"].clips >= 60
    for direction in ("audio → video", "video → audio"):
        found, chance = (
            written.value(*asked) for asked in ((direction, "R@1"), ("same clip", "R@1", "chance"))
        )
        assert found >= TIMES_CHANCE * chance, (direction, written.scores)
