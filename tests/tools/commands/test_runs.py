"""`gdt runs` and `gdt compare` on folders as `gdt pretrain` and `gdt evaluate` leave them."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.display.run_curves import draw_runs
from tools.runs.config import load_config
from tools.runs.losses import LossFile, LossRow
from tools.runs.overview import find_runs, overview
from tools.runs.run_folder import RunError, RunFolder
from tools.runs.status import RunStatus, State
from tools.runs.validation_scores import WATCHED, ValidationScore, write_scores


def make(config: Path, path: Path, state: State, *overrides: str, steps: int = 8) -> RunFolder:
    folder = RunFolder(path)
    folder.claim(load_config(config, overrides), resume=False)
    losses = LossFile(folder.losses)
    losses.cut(0)
    for step in range(steps):
        losses.append(LossRow(step, 0, 4.0 - step / 10, 0.1))
    scores = [ValidationScore(step, 1, "retrieval", WATCHED, step / 10) for step in (2, 4)]
    write_scores(folder.validation, scores)
    reason = "stopped by SIGTERM" if state == "stopped" else ""
    RunStatus(state, steps, 9, reason).save(folder.status)
    return folder


def gdt(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output)


def test_runs_are_listed_with_state_and_numbers(tiny_config: Path, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    make(tiny_config, root / "a", "finished", steps=9)
    make(tiny_config, root / "group" / "b", "stopped")
    held = make(tiny_config, root / "c", "running")
    make(tiny_config, root / "d", "running")
    metrics = root / "a" / "evaluation" / "knn" / "val-0123" / "metrics.json"
    metrics.parent.mkdir(parents=True)
    scores = [
        {"of": "video", "encoder": name, "metric": "accuracy, k = 5", "value": value}
        for name, value in (("untrained", 0.25), ("trained", 0.875))
    ]
    content = {"task": "knn", "data": {"test": {"path": "shards/val"}}, "scores": scores}
    metrics.write_text(json.dumps({"schema": "gdt-metrics/1", **content}))

    assert [path.name for path in find_runs(root)] == ["a", "c", "d", "b"]
    with held.held():
        code, text = gdt("runs", root)
        assert code == 0, text
        rows = json.loads(CliRunner().invoke(app, ["runs", str(root), "--json"]).output)
    states = {Path(row["run"]).name: row["state"] for row in rows}
    assert states == {"a": "finished", "b": "stopped", "c": "running", "d": "killed"}
    assert "finished 9/9 3.600 0.400 after step" in text
    assert rows[0]["results"] == {"knn, val": "video accuracy, k = 5 87.5 %"}
    assert f"{root / 'group' / 'b'}: stopped by SIGTERM" in text
    assert rows[0]["loss"] == pytest.approx(3.6)
    assert rows[0]["validation"]["step"] == 4


def test_a_folder_without_runs_is_said(tmp_path: Path) -> None:
    code, text = gdt("runs", tmp_path)
    assert code == 1
    assert "holds no run: give a folder that `gdt pretrain --out` wrote to" in text
    with pytest.raises(RunError, match="is not a run folder"):
        overview(tmp_path)


def test_runs_are_compared_key_by_key_and_drawn(tiny_config: Path, tmp_path: Path) -> None:
    make(tiny_config, tmp_path / "a", "finished")
    make(tiny_config, tmp_path / "b", "finished", "seed=9", "optimizer.warmup_epochs=0.5")
    out = tmp_path / "pictures" / "both.png"
    code, text = gdt("compare", tmp_path / "a", tmp_path / "b", "--out", out)
    assert code == 0, text
    assert "key a b optimizer.warmup_epochs 1.0 0.5 seed 3 9 picture" in text
    assert out.read_bytes().startswith(b"\x89PNG")
    code, text = gdt("compare", tmp_path / "a", tmp_path / "a", "--out", out)
    assert "their configs are the same" in text
    code, text = gdt("compare", tmp_path / "a", "--out", out)
    assert code == 1
    assert "name two runs or more to compare" in text


def test_nothing_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run to draw"):
        draw_runs([], tmp_path / "a.png")
