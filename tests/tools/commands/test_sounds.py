"""ESC-50 and DCASE2014 in small: tones in their layouts, for an SVM and for fine-tuning."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from tests.tools.commands.test_evaluate import refuse, results, succeed
from tests.tools.commands.test_finetune import result_of
from tests.tools.commands.test_finetune import succeed as succeed_in
from tools.evaluation.encoders import pooled_over_time

CLASSES = {"hum": 200.0, "horn": 900.0, "whistle": 3600.0}


def write_tone(path: Path, hertz: float, rng: np.random.Generator) -> None:
    """1.25 s near a pitch, in noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(10_000) / 8000
    tone = 0.3 * np.sin(2 * np.pi * hertz * rng.uniform(0.8, 1.25) * times)
    soundfile.write(path, tone + rng.normal(0, 0.03, len(times)), 8000)


@pytest.fixture(scope="module")
def esc50(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 folds of 3 classes with 2 clips each."""
    folder, rng = tmp_path_factory.mktemp("esc"), np.random.default_rng(0)
    rows: list[Sequence[object]] = []
    for number in range(18):
        target, fold = number % 3, 1 + number // 6
        category = list(CLASSES)[target]
        name = f"{fold}-{1000 + number}-A-{target}.wav"
        write_tone(folder / "audio" / name, CLASSES[category], rng)
        rows.append((name, fold, target, category))
    (folder / "meta").mkdir()
    with (folder / "meta" / "esc50.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("filename", "fold", "target", "category"), *rows])
    return folder


@pytest.fixture(scope="module")
def dcase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.txt and test.txt, of 4 and 2 recordings a class."""
    folder, rng = tmp_path_factory.mktemp("dcase"), np.random.default_rng(1)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for label, hertz in CLASSES.items():
        for number in range(1, 7):
            write_tone(folder / f"{label}{number:02}.wav", hertz, rng)
            lists["train" if number < 5 else "test"].append(f"{label}{number:02}.wav")
    for part, names in lists.items():
        (folder / f"{part}.txt").write_text("\n".join(names) + "\n")
    return folder


@pytest.mark.parametrize("layer", ["features", "maps"])
def test_esc50_over_its_folds(run: Path, esc50: Path, layer: str) -> None:
    options = ("--layer", layer, "--seconds", "1.2", "--segments", "3", "--no-untrained")
    succeed("audio-svm", "--run", run, "--test", esc50, *options)
    (found,) = results(run, "audio-svm")
    assert found.value("audio", "accuracy") > 0.8  # pitches far apart, by random filters
    assert found.value("", "accuracy", "chance") == pytest.approx(1 / 3)
    assert found.settings["places"] == [0.0, 0.5, 1.0]
    assert (found.settings["layer"], found.settings["seconds"]) == (layer, 1.2)
    assert found.data["test"].clips == 18


def test_dcase_by_its_lists(run: Path, dcase: Path) -> None:
    lists = ("--train", dcase / "train.txt", "--test", dcase / "test.txt")
    succeed("audio-svm", "--run", run, *lists, "--segments", "2", "--no-untrained")
    (found,) = results(run, "audio-svm")
    assert found.value("audio", "accuracy") > 0.8
    assert {role: facts.clips for role, facts in found.data.items()} == {"train": 12, "test": 6}


def test_maps_are_of_sound_alone(run: Path, corpus: Path) -> None:
    video = ("--test", corpus / "train", "--modality", "video", "--segments", "1")
    said = refuse("audio-svm", "--run", run, *video, "--layer", "maps")
    assert "--layer maps is of sound, whose maps have time as their last axis; got" in said


def test_without_folds_two_lists_are_asked_for(run: Path, dcase: Path) -> None:
    assert "is in no fold: give the" in refuse("audio-svm", "--run", run, "--test", dcase)


def test_fine_tuning_learns_what_sounds_are(dcase: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    train = ("--train", dcase / "train.txt", "--test", dcase / "test.txt", "--modality", "audio")
    untrained = ("encoders.audio=resnet9_small", "data.batch_size=6", "trainer.epochs=12")
    more = [argument for key in (*untrained, "trainer.loggers=[]") for argument in ("--set", key)]
    succeed_in("finetune", *train, *more, "--out", out, "--segments", "2")
    assert result_of(out).value("audio", "top-1") > 0.8
    assert result_of(out).value("", "top-1", "chance") == pytest.approx(1 / 3)


def test_maps_are_pooled_over_time_as_by_hand() -> None:
    maps = torch.rand(2, 3, 2, 8)
    rows = pooled_over_time(maps).view(2, 3, 2, 3)
    greatest = np.stack([maps[..., t : t + 3].amax(-1) for t in (0, 2, 4)], axis=-1)
    lengths = np.sqrt((greatest**2).sum(-1, keepdims=True))
    np.testing.assert_allclose(rows.numpy(), greatest / lengths, rtol=1e-5)
    assert pooled_over_time(torch.rand(2, 3, 2, 1)).shape == (2, 6)
