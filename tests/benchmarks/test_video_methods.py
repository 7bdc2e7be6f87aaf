"""The benchmark of time, sound and words: a step of methods of each kind, baselines, tables."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import sound_words_worlds as groups
from benchmarks.correspondence import COLUMNS, METHODS, correspondence
from benchmarks.groups import Group, table
from benchmarks.sound_words_worlds import KNOWN, LOG_MEL, KnownCaptions, LogMelProbe
from benchmarks.trials import (
    TRAINED,
    UNTRAINED,
    Column,
    Failed,
    Point,
    Setting,
    Trial,
    run_trials,
)
from tools.evaluation.result import CHANCE, Score
from tools.evaluation.sts import COUNTS
from tools.evaluation.world_model import KEPT
from tools.propagation.evaluate import COLOR, STILL
from tools.sample_data.moving_shapes import MovingShapesOptions


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Group:
    """The methods of correspondence, on shapes of 48 pixels."""
    options = MovingShapesOptions(num_train=2, num_val=1, size=48, num_frames=8)
    group = correspondence(tmp_path_factory.mktemp("shapes"), options, steps=1)
    return group.overridden("data.batch_size=2")


def one_trial(group: Group, folder: Path) -> Trial:
    (setting,) = group.settings
    (trial,) = run_trials([setting], [0], folder, say=lambda line: None)[setting.name]
    assert isinstance(trial, Trial), trial
    return trial


@pytest.mark.slow(seconds=8)
def test_a_trial_stands_beside_untrained_features_colours_and_still_masks(
    shapes: Group, tmp_path: Path
) -> None:
    trial = one_trial(shapes.only(["crw"]), tmp_path)
    values = [trial.value(COLUMNS[0], name) for name in (TRAINED, UNTRAINED, COLOR, STILL)]
    assert all(value is not None and 0 < value < 1 for value in values)


def test_every_method_has_a_config_that_is_a_trial(shapes: Group) -> None:
    assert [setting.name for setting in shapes.settings] == list(METHODS)
    for setting in shapes.settings:
        config = setting.resolved(1)
        assert config.method.name == setting.name
        assert (config.seed, config.trainer.max_steps, config.data.batch_size) == (1, 1, 2)


@pytest.mark.slow(seconds=8)
def test_clips_and_captions_stand_beside_what_captions_say(tmp_path: Path) -> None:
    group = groups.words(tmp_path / "data", num_train=4, num_val=3).only(["clip"])
    group = group.overridden("trainer.max_steps=1", "data.batch_size=4", "video_augment.size=32")
    trial = one_trial(group, tmp_path)
    for column in group.columns:
        values = [trial.value(column, name) for name in (TRAINED, UNTRAINED, KNOWN, CHANCE)]
        assert all(value is not None and 0 <= value <= 1 for value in values), column
    assert trial.value(group.columns[0], CHANCE) == pytest.approx(1 / 3)


@pytest.mark.slow(seconds=6)
def test_worlds_stand_beside_states_that_stay(tmp_path: Path) -> None:
    group = groups.worlds(tmp_path / "data", num_train=2, num_val=2)
    trial = one_trial(group.overridden("trainer.max_steps=1", "data.batch_size=2"), tmp_path)
    for column in group.columns:
        values = [trial.value(column, name) for name in (TRAINED, UNTRAINED, KEPT, CHANCE)]
        assert None not in values, column


@pytest.mark.slow(seconds=8)
def test_sounds_stand_beside_spectrograms(tmp_path: Path) -> None:
    group = groups.sounds(tmp_path / "data", num_train=20, num_val=10)
    trial = one_trial(group.overridden("trainer.max_steps=1", "data.batch_size=2"), tmp_path)
    probe, moments = group.columns
    values = [trial.value(probe, name) for name in (TRAINED, UNTRAINED, LOG_MEL, CHANCE)]
    values += [trial.value(moments, name) for name in (TRAINED, UNTRAINED)]
    assert all(value is not None and 0 <= value <= 1 for value in values)
    assert trial.value(moments, CHANCE) == pytest.approx(1 / 33)


def test_texts_stand_beside_tokens_in_common(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "lee.cor").write_text("A storm.\nA storm.\nVotes.\n")
    (source / "lee_background.cor").write_text("Rain.\nWind.\nVotes were cast.\n")
    (source / "similarities0-1.txt").write_text("1\t0.9\t0.2\n0\t1\t0.2\n0\t0\t1\n")
    group = groups.news(tmp_path / "data", source)
    trial = one_trial(group.overridden("trainer.max_steps=1", "data.batch_size=2"), tmp_path)
    (column,) = group.columns
    assert trial.value(column, COUNTS) == pytest.approx(1)
    assert trial.value(column, CHANCE) == 0
    assert None not in [trial.value(column, name) for name in (TRAINED, UNTRAINED)]


def test_captions_that_clips_share_cannot_be_told_apart(tmp_path: Path) -> None:
    texts = tmp_path / "texts.tsv"
    texts.write_text("a\nb\n" + "c\n" * 6)
    scores = KnownCaptions(texts)(tmp_path).scores
    found = {(score.of, score.metric): score.value for score in scores}
    assert found["text → video", "R@1"] == pytest.approx((1 + 1 + 6 / 6) / 8)
    assert found["video → text", "R@5"] == pytest.approx((1 + 1 + 6 * 5 / 6) / 8)


def test_log_mel_tells_high_from_low(tmp_path: Path) -> None:
    times = np.arange(24_000) / 24_000
    for part in ("train", "test"):
        for label, hz in (("high", 3000), ("low", 300)):
            folder = tmp_path / part / label
            folder.mkdir(parents=True)
            for number in range(4):
                tone = 0.5 * np.sin(2 * np.pi * (hz + 10 * number) * times)
                soundfile.write(folder / f"{number}.wav", tone, 24_000)
    (score,) = LogMelProbe(tmp_path / "train", tmp_path / "test")(tmp_path).scores
    assert (score.encoder, score.metric, score.value) == (LOG_MEL, "accuracy", 1.0)


def test_a_table_has_untrained_encoders_in_brackets_and_baselines_below() -> None:
    def trial(seed: int, value: float) -> Trial:
        named = {"trained": value, "untrained": 0.25, "chance": 0.1}
        points = [
            Point(5 if name == "trained" else 0, "knn", Score("image", name, "R@1", share))
            for name, share in named.items()
        ]
        return Trial("one", seed, 5, tuple(points), 2.0)

    column = Column("R@1", "knn", "image", "R@1", chance_of="image")
    settings = [Setting(name=n, config="crw", data={}, tasks=()) for n in ("one", "two")]
    group = Group("some", "What it is:", (column,), (CHANCE,), tuple(settings))
    results: dict[str, list[Trial | Failed]] = {
        "one": [trial(0, 0.5), trial(1, 0.7)],
        "two": [Failed("two", 0, "no frames")],
    }
    assert table(group, results).splitlines() == [
        "What it is:",
        "",
        "| method | R@1 | seeds | steps | CPU s |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| one | 60.0 ± 14.1 (25.0 ± 0.0) | 2 | 5 | 2 |",
        "| two | - | 0 | - | - |",
        "| chance | 10.0 | - | - | - |",
        "",
        "two, seed 0, failed: no frames",
    ]
