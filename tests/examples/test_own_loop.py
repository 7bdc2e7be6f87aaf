"""The example of a loop of one's own runs, as it stands, on a few clips."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.pipelines.conftest import Clip, constant_rate, members_of, noise, write_shards

ROOT = Path(__file__).parents[2]


def test_it_trains_for_an_epoch(tmp_path: Path) -> None:
    clips = [Clip(constant_rate(10, 1.2), noise(1.2, seed=i)) for i in range(26)]
    write_shards(tmp_path, [members_of(clip) for clip in clips])
    command = [sys.executable, "examples/own_loop.py", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = re.findall(r"epoch 0 step (\d): loss (\d+\.\d+)", ran.stdout)
    assert [int(step) for step, _ in found] == [0, 1, 2]
    assert all(0 < float(loss) < 10 for _, loss in found)
