"""Learning curves and speed of image methods: two steps of one seed, with lightly beside."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import image_speed
from benchmarks.image_methods import (
    KNN,
    RECIPES,
    draw_curves,
    draw_pictures,
    in_colours,
    raw_pixels,
    settings,
    table,
)
from benchmarks.image_speed import our_stages, paired, step_lines, write_pictures
from benchmarks.trials import Trial, run_trials
from models import METHODS
from tools.sample_data.digit_material import Material


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty digits of each kind, ten of them to learn from: bars at a place of their own."""
    digits = np.repeat(np.arange(10, dtype=np.uint8), 50)
    images = np.zeros((500, 28, 28), np.uint8)
    for image, digit in zip(images, digits, strict=True):
        image[2 * digit + 3, 4:24] = 255
    folder = tmp_path_factory.mktemp("digits") / "pictures"
    draw_pictures(folder, Material(images, digits, [], digits, digits, ""))
    return folder


def test_ink_and_paper_differ_in_brightness() -> None:
    gray = np.array([[0, 255], [128, 0]], np.uint8)
    for seed in range(20):
        coloured = in_colours(gray, seed) / 255
        assert coloured.shape == (2, 2, 3)
        assert abs((coloured[0, 1] - coloured[0, 0]) @ [0.299, 0.587, 0.114]) > 0.29
        between = (coloured[0, 0] + coloured[0, 1]) / 2
        np.testing.assert_allclose(coloured[1, 0], between, atol=0.01)


def test_every_method_is_run_or_left_out_with_a_reason(pictures: Path) -> None:
    found, left_out = settings(pictures, list(METHODS), 2, 2, lightly=False)
    names = {setting.name for setting in found}
    assert names | set(left_out) == set(METHODS)
    assert set(RECIPES) <= names, left_out
    assert all(left_out.values())


@pytest.mark.slow(seconds=8)
def test_ours_and_lightlys_begin_alike_and_both_are_in_the_table(
    pictures: Path, tmp_path: Path
) -> None:
    found, left_out = settings(pictures, ["gdt", "simclr"], 2, 1)
    assert [setting.name for setting in found] == ["simclr", "simclr, lightly"]
    results = run_trials(found, [0], tmp_path, say=lambda line: None)
    ours, theirs = (trials[0] for trials in results.values())
    assert isinstance(ours, Trial), ours
    assert isinstance(theirs, Trial), theirs
    assert ours.value(KNN, "untrained") == theirs.value(KNN, "untrained")
    assert ours.scored_steps() == theirs.scored_steps() == [1, 2]
    pixels = raw_pixels(pictures)
    lines = table(results, left_out, pixels).splitlines()
    assert lines[0].startswith("| method | kNN 0 | kNN 1 | kNN 2 | lightly's kNN | probe 0 |")
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| simclr", "| raw pixels", "| chance"]
    assert lines[-1].startswith("| gdt | on pictures alone it is SimCLR")
    draw_curves(results, pixels[0], tmp_path / "curves.png", "kNN")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_steps_are_timed_in_turns_beside_lightlys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_speed, "TURNS", 3)
    turns: list[str] = []
    ours, theirs = paired(lambda: turns.append("ours"), lambda: turns.append("theirs"), 1)
    assert len(ours) == len(theirs) == 3
    assert turns[:6] == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    lines = list(step_lines(["byol", "dino"], 4, 16, 1))
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| byol", "| dino"]
    for line, joined in zip(lines[2:], (False, True), strict=True):
        ratios = [cell.strip(" |") for cell in line.split(" | ")[3:]]
        assert [ratio == "-" for ratio in ratios] == [False, not joined, False]
        assert all(float(ratio) > 0 for ratio in ratios if ratio != "-")


def test_stages_of_the_input_add_up(tmp_path: Path) -> None:
    write_pictures(tmp_path, 4)
    costs = our_stages(tmp_path, 2)
    *parts, whole = costs.values()
    assert all(cost >= 0 for cost in parts)
    assert sum(parts) >= whole > 0
