"""A builder killed with SIGKILL, again and again, at seeded moments; the last run may end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.maintenance.verify import verify
from tests.faults.kill_chain import finals

NUM_KILLS = 25


@pytest.mark.slow
def test_killed_builds_are_continued_to_the_same_bytes(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    """Nothing half under a final name, nothing finished made again, and the unbroken bytes."""
    for name in ("a.mp4", "b.mp4", "c.mp4", "d.mp4"):
        film(f"videos/{name}", seconds=6, size=(64, 48))
    (tmp_path / "videos/page.mp4").write_text("<html>")
    command = [sys.executable, "-m", "tests.faults.kill_chain", str(tmp_path / "videos")]
    done = subprocess.run(
        [*command, str(tmp_path), str(NUM_KILLS), "0"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert sum(told["killed"].values()) == NUM_KILLS
    assert set(told["killed"]) == {"probe", "encode", "files"}
    assert told["kept"] > 10  # the runs after a kill found finished shards
    for part in ("train", "val"):
        assert verify(tmp_path / "whole" / part).problems == []


def start(videos: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "from tools.cli import app; app()", "shards", "build"]
    choices = ["--clip-seconds", "1", "--short-side", "64", "--clips-per-shard", "2"]
    return subprocess.Popen(
        [*command, str(videos), "--out", str(out), *choices, "--workers", "2"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_command_whose_first_process_alone_is_killed_can_be_given_again_at_once(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    """As by a machine out of memory: the workers live on for a moment, and hold nothing."""
    film("videos/a.mp4", seconds=12)
    assert start(tmp_path / "videos", tmp_path / "whole").wait(120) == 0
    out = tmp_path / "out"
    first = start(tmp_path / "videos", out)
    deadline = time.monotonic() + 120
    while not list(out.glob("*.tar")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert list(out.glob("*.tar"))
    assert not (out / "manifest.json").exists()
    assert start(tmp_path / "videos", out).wait(120) == 0
    assert finals(out) == finals(tmp_path / "whole")
