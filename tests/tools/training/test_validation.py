"""Validation while a run trains: it changes nothing, names the best, and may end the run early."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

import tools
from gdt import Plan
from tools.evaluation.errors import EvaluationError
from tools.runs.checkpoints import load_checkpoint
from tools.runs.config import load_config
from tools.runs.losses import read_losses
from tools.runs.run import load_run
from tools.runs.run_folder import RunError, RunFolder
from tools.runs.status import read_status
from tools.runs.validation_scores import (
    WATCHED,
    ValidationScore,
    best_score,
    read_scores,
    write_scores,
)
from tools.training.fit import fit
from tools.training.log_metrics import alignment_and_uniformity, build_loggers


def train(
    config: Path, run: Path, *overrides: str, resume: bool = False, callbacks: Any = ()
) -> RunFolder:
    settings, folder = load_config(config, overrides), RunFolder(run)
    folder.claim(settings, resume=resume)
    fit(settings, folder, resume=resume, callbacks=callbacks)
    return folder


def step_of(path: Path) -> int:
    step: int = load_checkpoint(path)["global_step"]
    return step


@pytest.mark.slow(seconds=10)
def test_validation_changes_nothing_and_keeps_the_best(
    tiny_config: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    plain = train(tiny_config, tmp_path / "plain")
    watched = (f"validation.shards={tiny_shards}", "trainer.keep_every_steps=4")
    loggers = 'trainer.loggers=["csv", "tensorboard"]'
    folder = train(tiny_config, tmp_path / "run", *watched, loggers)
    assert read_losses(folder.path) == read_losses(plain.path)

    scores = read_scores(folder.validation)
    assert sorted({score.step for score in scores}) == [3, 6, 9]
    assert sorted({score.epoch for score in scores}) == [1, 2, 3]
    assert {score.of for score in scores if score.metric == "R@1"} == {
        "video → audio",
        "audio → video",
    }
    for step in (3, 6, 9):
        at = {(s.of, s.metric): s.value for s in scores if s.step == step}
        mean = (at["video → audio", "MRR"] + at["audio → video", "MRR"]) / 2
        assert at["retrieval", WATCHED] == pytest.approx(mean)
    best = best_score(scores)
    assert best is not None
    assert step_of(folder.best_checkpoint) == best.step
    kept = sorted(path.name for path in folder.checkpoint.parent.glob("step-*"))
    assert kept == ["step-000004.ckpt", "step-000008.ckpt"]
    assert step_of(folder.checkpoint.with_name("step-000004.ckpt")) == 4
    assert load_run(folder.path, checkpoint="4").step == 4
    with pytest.raises(RunError, match=r"no checkpoint '5'.* trainer.keep_every_steps kept: 4, 8"):
        load_run(folder.path, checkpoint="5")
    assert step_of(folder.checkpoint) == 9

    (log,) = (folder.path / "logs" / "csv").glob("version_*/metrics.csv")
    rows = list(csv.DictReader(log.open()))
    steps = [row for row in rows if row["loss"]]
    assert [int(row["step"]) for row in steps] == list(range(9))
    for name in ("gradient_norm", "samples_per_second", "share_waiting", "uniformity", "alignment"):
        assert all(math.isfinite(float(row[name])) for row in steps), name
    assert any(row["validation/retrieval watched"] for row in rows)


@pytest.mark.slow(seconds=10)
def test_a_score_that_no_longer_rises_ends_the_run(
    tiny_config: Path, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = iter([0.25, 0.5, 0.5, 0.25, 0.75])
    monkeypatch.setattr("tools.training.validation.watched_score", lambda *a: next(falling))
    longer = ("trainer.epochs=9", "validation.patience=2", f"validation.shards={tiny_shards}")
    folder = train(tiny_config, tmp_path / "run", *longer)
    assert len(read_losses(folder.path)) == 12  # of 27
    assert (step_of(folder.checkpoint), step_of(folder.best_checkpoint)) == (12, 6)
    status = read_status(folder.status)
    assert status is not None
    assert (status.state, status.step) == ("finished", 12)
    assert status.reason == (
        "no better validation score for 2 validations: the best, 0.500, was after step 6"
    )


def test_labels_are_asked_for_before_the_first_step(
    tiny_config: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    knn = ('validation.task="knn"', f"validation.shards={tiny_shards}")
    with pytest.raises(EvaluationError, match=r"has no label: build the shards with .* --labels"):
        train(tiny_config, tmp_path / "run", *knn)
    assert not RunFolder(tmp_path / "run").checkpoint.exists()


def test_knn_is_watched_where_there_are_labels(
    tiny_config: Path, corpus: Path, tmp_path: Path
) -> None:
    shards = (f"validation.shards={corpus / 'val'}", f"validation.train={corpus / 'train'}")
    short = ('validation.task="knn"', "validation.k=3", "trainer.max_steps=1")
    scores = read_scores(train(tiny_config, tmp_path / "run", *shards, *short).validation)
    assert [(score.of, score.metric) for score in scores] == [
        ("video", "accuracy, k = 3"),
        ("audio", "accuracy, k = 3"),
        ("knn", WATCHED),
    ]
    assert scores[2].value == pytest.approx((scores[0].value + scores[1].value) / 2)


def test_ones_own_callbacks_see_the_steps(tiny_config: Path, tmp_path: Path) -> None:
    class Count(Callback):
        steps = 0

        def on_train_batch_end(self, *_: Any) -> None:
            self.steps += 1

    count = Count()
    folder = tools.fit(
        tiny_config, tmp_path / "run", overrides=["trainer.max_steps=2"], callbacks=[count]
    )
    assert count.steps == len(read_losses(folder.path)) == 2
    with pytest.raises(RunError, match="already holds a run of this config"):
        tools.fit(load_config(tiny_config, ["trainer.max_steps=2"]), tmp_path / "run")


def test_scores_read_back_without_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "validation.csv"
    assert read_scores(path) == []
    scores = [
        ValidationScore(3, 1, "a → b, same label", "R@1", 1 / 3),
        ValidationScore(3, 1, "retrieval", WATCHED, 0.5),
        ValidationScore(6, 2, "retrieval", WATCHED, 0.5),
    ]
    write_scores(path, scores)
    with path.open("a") as file:
        file.write("9,3,retr")
    assert read_scores(path) == scores
    assert best_score(scores) == scores[1]
    assert best_score([]) is None


def test_alignment_and_uniformity_are_those_of_a_double_loop() -> None:
    plan = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
        }
    )
    codes = plan.codes(torch.arange(5))
    rows = torch.randn(len(codes), 4, generator=torch.Generator().manual_seed(0))
    unit = rows / rows.norm(dim=1, keepdim=True)
    near, spread = [], []
    for i in range(len(codes)):
        for j in range(len(codes)):
            square = float((unit[i] - unit[j]).square().sum())
            if i != j:
                spread.append(math.exp(-2 * square))
                same_sample = codes[i, 0] == codes[j, 0]
                if same_sample:  # the other modality, as there are two rows of a sample
                    near.append(square)
    found = alignment_and_uniformity(plan, rows, codes)
    assert found[0] == pytest.approx(sum(near) / len(near), rel=1e-5)
    assert found[1] == pytest.approx(math.log(sum(spread) / len(spread)), rel=1e-5)


def test_a_missing_logger_is_said_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(ImportError, match=r'"wandb": its library .*gdt-stream\[wandb\]'):
        build_loggers(("wandb",), RunFolder(tmp_path))
