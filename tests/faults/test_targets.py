"""Targets that cannot be written, or not to the end: one message each, and nothing half."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shards import BuildError, BuildOptions
from shards.building.build import build
from tests.faults.kill_chain import finals

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64)


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="a folder where root may not write")
def test_a_folder_that_nobody_may_write_is_one_clear_message(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    film("videos/a.mp4", seconds=1)
    why = "(Operation not permitted|Read-only file system|Permission denied)"
    complaint = rf"Target /sys/kernel/out cannot be written: {why}\. Choose another folder with"
    with pytest.raises(BuildError, match=complaint):
        build([tmp_path / "videos"], Path("/sys/kernel/out"), OPTIONS)


@pytest.mark.slow
def test_a_write_that_the_kernel_refuses_is_one_message_and_no_half_shard(
    film: Callable[..., Path], tmp_path: Path
) -> None:
    """A limit on file sizes fails in the middle of a shard, as a full disk or a quota does."""
    film("videos/a.mp4", seconds=4)
    film("videos/b.mp4", seconds=3)

    def start(out: str, limit: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from tools.cli import app; app()", "shards", "build"]
        choices = [
            "--clip-seconds",
            "1",
            "--short-side",
            "64",
            "--clips-per-shard",
            "4",
            "--workers",
            "1",
        ]
        return subprocess.run(
            [*command, str(tmp_path / "videos"), "--out", str(tmp_path / out), *choices],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"COLUMNS": "1000"},
        )

    assert start("whole", resource.RLIM_INFINITY).returncode == 0
    sizes = sorted(p.stat().st_size for p in (tmp_path / "whole").glob("*.tar"))
    assert len(sizes) == 2
    done = start("out", (sizes[0] + sizes[1]) // 2)  # the smaller shard fits
    assert done.returncode == 1
    said = done.stderr + done.stdout
    assert "stopped: File too large" in said
    assert "run the same command again" in said
    assert "Traceback" not in said
    found = finals(tmp_path / "out")
    whole = finals(tmp_path / "whole")
    assert {name: whole[name] for name in found} == found
    assert not [name for name in found if name.endswith((".tmp", "manifest.json"))]
    assert start("out", resource.RLIM_INFINITY).returncode == 0
    assert finals(tmp_path / "out") == whole
