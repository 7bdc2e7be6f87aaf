"""Trials of two steps on eight pictures: scored at each step, kept, gone on with, and laid out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tools
from benchmarks import trials
from benchmarks.trials import (
    Column,
    Failed,
    Setting,
    Trial,
    kept_trials,
    mean_and_spread,
    put_into,
    run_trials,
    table,
)
from tests.pipelines.stills import image_file, smooth_picture
from tools.evaluation.tasks.knn import Knn
from tools.runs.config import Config
from tools.training.stopping import Stopped

COLUMN = Column("kNN", "knn", "image", "accuracy, k = 1")
TINY = (
    "data.batch_size=4",
    "trainer.epochs=1",
    "trainer.accelerator=cpu",
    "image_augment.size=16",
    "method.hidden_dim=8",
    "method.embedding_dim=4",
    "encoders.image=resnet_small",
)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """SimCLR on pictures of two classes, scored after both of its steps."""
    root = tmp_path_factory.mktemp("images")
    for number in range(8):
        folder = root / ("left", "right")[number % 2]
        folder.mkdir(exist_ok=True)
        picture = smooth_picture(number, 40 + number, 40)
        (folder / f"{number}.jpg").write_bytes(image_file(picture, "a.jpg"))
    return Setting(
        name="two steps",
        config="simclr",
        overrides=(f"data.shards={root}", *TINY),
        data={"train": root, "test": root},
        tasks=(Knn((1,)),),
        score_every=1,
    )


@pytest.fixture(scope="module")
def done(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trial]:
    """The folder of its trial of seed 3, and the trial."""
    folder = tmp_path_factory.mktemp("trials")
    (trial,) = run_trials([setting], [3], folder, say=lambda line: None)["two steps"]
    assert isinstance(trial, Trial), trial
    return folder, trial


def test_a_trial_is_scored_at_every_step_beside_the_untrained_encoder_and_chance(
    done: tuple[Path, Trial],
) -> None:
    _, trial = done
    assert trial.steps == 2
    assert trial.scored_steps() == [1, 2]
    assert trial.value(COLUMN, "chance") == 0.5
    scores = [trial.value(COLUMN, "trained", 1), trial.value(COLUMN, "trained", 2)]
    scores.append(trial.value(COLUMN, "untrained"))
    assert all(score is not None and 0 <= score <= 1 for score in scores)


def test_a_finished_trial_is_read_and_another_question_is_another_trial(
    setting: Setting, done: tuple[Path, Trial]
) -> None:
    folder, trial = done

    def fit(*given: Any, **options: Any) -> None:
        raise AssertionError("trained again")

    asked = replace(setting, train=fit)
    assert run_trials([asked], [3], folder, say=_silent) == {"two steps": [trial]}
    assert kept_trials([asked], [3, 4], folder) == {"two steps": [trial]}
    assert kept_trials([replace(asked, score_every=2)], [3], folder) == {}
    for other in (
        replace(asked, overrides=(*setting.overrides, "optimizer.learning_rate=0.01")),
        replace(asked, tasks=(Knn((1, 5)),)),
        replace(asked, score_every=2),
    ):
        (found,) = run_trials([other], [3], folder, say=_silent)["two steps"]
        assert isinstance(found, Failed)
        assert "trained again" in found.reason


def test_an_interrupted_trial_goes_on_to_the_same_scores(
    setting: Setting, done: tuple[Path, Trial], tmp_path: Path
) -> None:
    _, whole = done

    def fit(config: Config, path: Path, **options: Any) -> None:
        short = replace(config.trainer, max_steps=1)
        tools.fit(config.model_copy(update={"trainer": short}), path, **options)
        raise Stopped(2)

    with pytest.raises(Stopped):
        run_trials([replace(setting, train=fit)], [3], tmp_path, say=_silent)
    (path,) = tmp_path.iterdir()
    assert not (path / "trial.json").exists()
    (path / "config.toml").write_text(setting.resolved(3).to_toml())
    (trial,) = run_trials([setting], [3], tmp_path, say=_silent)["two steps"]
    assert isinstance(trial, Trial)
    assert trial.cpu_seconds is None
    assert trial.value(COLUMN, "trained", 1) == whole.value(COLUMN, "trained", 1)


def test_a_table_shows_means_spreads_and_what_failed(
    done: tuple[Path, Trial], tmp_path: Path
) -> None:
    _, trial = done
    results: dict[str, list[Trial | Failed]] = {
        "two steps": [trial, Failed("two steps", 4, "loss is nan")]
    }
    lines = table(results, [COLUMN]).splitlines()
    assert lines[0] == "| run | kNN | untrained | chance | steps | CPU s |"
    assert lines[2].startswith("| two steps | ")
    assert lines[2].split(" | ")[3] == "50.0"
    assert lines[-1] == "two steps, seed 4, failed: loss is nan"
    trials.draw(results, COLUMN, tmp_path / "scores.png", "kNN")
    assert (tmp_path / "scores.png").stat().st_size > 5000


def test_the_spread_is_the_standard_deviation_over_seeds() -> None:
    assert mean_and_spread([0.1, 0.2, 0.6]) == "30.0 ± 26.5"  # √((20² + 10² + 30²) / 2)
    assert mean_and_spread([0.5]) == "50.0"
    assert mean_and_spread([8.0, 10.0], unit="") == "9.0 ± 1.4"
    assert mean_and_spread([]) == "-"


def test_a_table_is_put_where_its_marker_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\n<!-- end -->\nb\n<!-- two -->\n<!-- end -->\nc\n")
    for text in ("first", "second"):
        put_into(page, "<!-- two -->", text)
    parts = page.read_text().split("\n")
    assert parts[:5] == ["a", "<!-- one -->", "old", "<!-- end -->", "b"]
    assert parts[5:] == ["<!-- two -->", "", "second", "", "<!-- end -->", "c", ""]
    with pytest.raises(ValueError, match="no line '<!-- three -->'"):
        put_into(page, "<!-- three -->", "text")


def _silent(line: str) -> None:
    pass
