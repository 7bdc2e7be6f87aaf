"""The other examples run as they stand, on a few clips and a run that has not learned yet."""

import os
import subprocess
import sys
from pathlib import Path

from models import load_encoder
from tests.pipelines.conftest import Clip, constant_rate, members_of, noise, write_shards
from tests.tools.evaluation.runs import make_run

ROOT = Path(__file__).parents[2]


def run_example(name: str, *arguments: str, folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "examples" / name), *arguments]
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_an_encoder_is_exported_and_gives_the_same_features(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    said = run_example(
        "export_encoder.py", str(run), "video", "encoder.safetensors", folder=tmp_path
    )
    assert "wrote encoder.safetensors" in said
    assert "differs by 0.0e+00" in said
    assert load_encoder(tmp_path / "encoder.safetensors").embedding_dim == 256


def test_a_data_set_and_a_plan_are_looked_at(tmp_path: Path) -> None:
    clips = [Clip(constant_rate(10, 1.2), noise(1.2, seed=i)) for i in range(4)]
    shards = tmp_path / "shards"
    shards.mkdir()
    write_shards(shards, [members_of(clip) for clip in clips])
    said = run_example("explore.py", str(shards), "segments.png", folder=tmp_path)
    assert "4 samples in 1 shard" in said
    assert "16 transformations, 32 positive pairs" in said
    assert (tmp_path / "segments.png").read_bytes().startswith(b"\x89PNG")
