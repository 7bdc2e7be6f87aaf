"""Pictures of correspondence: heat lies where chances are, rows are laid out by name."""

from pathlib import Path

import numpy as np
from PIL import Image

from tools.display.correspondence import heated, picture_rows
from tools.display.propagated_masks import MaskedFrames, overlaid, propagated_picture


def test_heat_lies_on_the_cells_that_are_likely() -> None:
    frame = np.full((8, 12, 3), 100, np.uint8)
    chances = np.zeros((2, 3))
    chances[1, 2] = 0.9
    found = heated(frame, chances)
    warm = found[..., 0] > 150
    assert warm[4:, 8:].all()
    assert warm.sum() == 16
    assert (found[~warm] == 100).all()
    assert (heated(frame, np.zeros((2, 3))) == 100).all()


def test_objects_have_colours_of_their_own_over_gray() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    mask = np.zeros((6, 6), np.uint8)
    mask[:2], mask[2:4] = 1, 2
    found = overlaid(frame, mask).astype(int)
    assert (found[4:, :, 0] == found[4:, :, 1]).all()
    assert found[:2, :, 0].mean() > found[:2, :, 2].mean()
    assert found[2:4, :, 2].mean() > found[2:4, :, 0].mean()


def test_pages_are_as_high_as_their_rows(tmp_path: Path) -> None:
    frame = np.zeros((10, 10, 3), np.uint8)
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    picture_rows({"a": [frame] * 4}, "title", "note", one)
    picture_rows({"a": [frame] * 4, "b": [frame] * 4}, "title", "note", two)
    assert Image.open(two).size[0] == Image.open(one).size[0]
    assert Image.open(two).size[1] > 1.5 * Image.open(one).size[1]
    mask = np.zeros((10, 10), np.uint8)
    clip = MaskedFrames("clip", [0, 1], [frame] * 2, {"truth": [mask] * 2})
    propagated_picture([clip], tmp_path / "three.png")
    assert Image.open(tmp_path / "three.png").size[0] == Image.open(one).size[0]
