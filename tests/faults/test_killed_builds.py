"""A builder killed with SIGKILL, again and again, at seeded moments; the last run may end."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import ShardIndex
from shards.verify import verify

NUM_KILLS = 4


def start(videos: Path, out: Path, workers: int) -> subprocess.Popen[bytes]:
    choices = [
        str(videos),
        "--out",
        str(out),
        "--clip-seconds",
        "1",
        "--short-side",
        "64",
        "--clips-per-shard",
        "4",
    ]
    command = [sys.executable, "-c", "from tools.cli import app; app()", "shards", "build"]
    return subprocess.Popen(
        [*command, *choices, "--workers", str(workers)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".build" not in path.parts
    }


@pytest.mark.slow
def test_killed_builds_are_continued_to_the_same_bytes(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        film(f"videos/{name}", seconds=8)
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert start(tmp_path / "videos", whole, 1).wait(300) == 0
    seconds = time.monotonic() - began

    dice = random.Random(0)
    out = tmp_path / "out"
    for _ in range(NUM_KILLS):
        process = start(tmp_path / "videos", out, 2)
        time.sleep(dice.uniform(0.3, 1.0) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for index in out.glob("*.index"):  # whatever has an index is whole
            ShardIndex(index)
    assert start(tmp_path / "videos", out, 2).wait(300) == 0
    assert digests(out) == digests(whole)
    found = verify(out)
    assert (found.samples, found.problems) == (24, [])
