"""RandAugment: each operation is torchvision's; rows draw theirs from counters alone."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from pipelines.device.augment import augment_frames
from pipelines.device.options import ImageAugment, VideoAugment
from pipelines.device.rand_augment import OPERATIONS, Operations, draw_operations, operate
from pipelines.sampling.draws import uniform

SIDE, ROWS = 40, 6
FILL = (0.5, 0.25, 0.75)
RGB = np.concatenate([np.eye(3) / 255, np.zeros((3, 1))], axis=1)  # of packed pixels
#: Strengths of both signs, none of which a whole step of posterize or solarize lies beside.
STRENGTHS = (1.0, -1.0, 0.93, -0.8, 0.4, 0.0)


def pictures() -> Tensor:
    """Smooth and of whole 8-bit levels; the last has one level alone: [N, 3, 1, S, S]."""
    coarse = torch.rand(ROWS, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic") * 0.8 + 0.05
    smooth[-1] = 0.4
    return (smooth.clamp(0, 1) * 255).round().div(255)[:, :, None]


def by_torchvision(
    name: str, picture: Tensor, strength: float, fill_with: tuple[float, ...] = FILL
) -> Tensor:
    """One operation on one picture [3, S, S], by torchvision's function."""
    magnitude, factor = abs(strength), 0.1 + 1.8 * abs(strength)
    fill, side = torch.tensor(fill_with)[:, None, None], picture.shape[-1]
    linear = vision.InterpolationMode.BILINEAR

    def warped(angle: float = 0.0, x: float = 0.0, y: float = 0.0, **shear: float) -> Tensor:
        by = [math.degrees(math.atan(shear.get(axis, 0.0))) for axis in ("x_shear", "y_shear")]
        moved: Tensor = vision.affine(picture - fill, angle, [x, y], 1.0, by, linear, center=[0, 0])
        return moved + fill

    if name == "rotate":
        turned: Tensor = vision.rotate(picture - fill, 30 * strength, linear)
        return turned + fill
    if name == "shear_x":
        return warped(x_shear=0.3 * strength)
    if name == "shear_y":
        return warped(y_shear=0.3 * strength)
    if name == "translate_x":
        return warped(x=-0.45 * side * strength)
    if name == "translate_y":
        return warped(y=-0.45 * side * strength)
    if name == "solarize":
        threshold = int(256 * magnitude) / 255
        solarized: Tensor = vision.solarize(picture, min(threshold, 1.0))
        return picture if threshold > 1 else solarized
    if name == "solarize_add":  # torchvision has none
        more = int(110 * magnitude)
        table = [min(255, level + more) if level < 128 else level for level in range(256)]
        return torch.tensor(table)[(picture * 255).round().long()] / 255
    changed: Tensor
    if name == "posterize":
        changed = vision.posterize(picture, int(4 * magnitude))
    elif name in ("autocontrast", "equalize", "invert"):
        changed = getattr(vision, name)(picture)
    else:
        changed = getattr(vision, f"adjust_{name}")(picture, factor)
    return changed


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions(name: str) -> None:
    given = pictures()
    found, number = given.clone(), list(OPERATIONS).index(name)
    which, strengths = np.full((ROWS, 1), number), np.array(STRENGTHS)[:, None]
    operate(found, Operations(which, strengths, np.zeros(ROWS, dtype=bool)), FILL)
    for row, strength in enumerate(STRENGTHS):
        expected = by_torchvision(name, given[row, :, 0], strength).clamp(0, 1)
        torch.testing.assert_close(found[row, :, 0], expected, rtol=0, atol=1e-4, msg=f"{row}")
    does_nothing = {"solarize"}  # at its strongest, as the reference has it
    assert (name in does_nothing) == torch.equal(found[0], given[0])


def test_levels_are_spread_as_pil_spreads_them() -> None:
    given = pictures()
    found = given.clone()
    number = list(OPERATIONS).index("equalize")
    operations = Operations(np.full((ROWS, 1), number), np.ones((ROWS, 1)), np.zeros(ROWS, bool))
    operate(found, operations, FILL)
    for row in range(ROWS):
        levels = (given[row, :, 0] * 255).round().to(torch.uint8).permute(1, 2, 0)
        expected = np.asarray(ImageOps.equalize(Image.fromarray(levels.numpy())))
        assert ((found[row, :, 0].permute(1, 2, 0) * 255).round().numpy() == expected).all()


def draw_of(seed: int, num_rows: int) -> Any:
    def draw(name: str, count: int = 0) -> np.ndarray:
        table = uniform(seed, 1, np.arange(num_rows)[:, None], name, np.arange(max(1, count)))
        return table if count else table[:, 0]

    return draw


def test_draws_are_even_and_magnitudes_are_a_cut_normal() -> None:
    num_rows = 20_000
    options = ImageAugment(rand_augment=2, rand_augment_magnitude=9.0, rand_augment_std=0.5)
    drawn = draw_operations(options, draw_of(0, num_rows), np.zeros(num_rows, dtype=bool))
    counts = np.bincount(drawn.which.flatten() + 1, minlength=len(OPERATIONS) + 1)
    assert counts[0] / counts.sum() == pytest.approx(0.5, abs=0.01)
    assert counts[1:] / counts[1:].sum() == pytest.approx(1 / len(OPERATIONS), rel=0.1)
    assert (drawn.strengths > 0).mean() == pytest.approx(0.5, abs=0.01)
    magnitudes = 10 * np.abs(drawn.strengths)
    assert magnitudes.max() == 10  # 2.3 % lie above
    assert (magnitudes == 10).mean() == pytest.approx(0.0228, abs=0.003)
    assert np.median(magnitudes) == pytest.approx(9, abs=0.02)
    assert np.quantile(magnitudes, 0.1587) == pytest.approx(8.5, abs=0.02)
    first, second = drawn.strengths.T
    assert abs(np.mean(first * second)) < 0.03  # operations of a row draw apart


def augmented(options: VideoAugment, rows: slice = slice(None)) -> Tensor:
    packed = (pictures()[:, :, 0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1)[:, None]
    drawn = draw_of(5, ROWS)
    out = torch.empty(ROWS, 3, 1, options.size, options.size)[rows]
    augment_frames(
        packed[rows].contiguous(),
        SIDE,
        SIDE,
        RGB,
        options,
        lambda name, count=0: drawn(name, count)[rows],
        out,
    )
    return out


PLAIN: dict[str, Any] = {"size": 24, "jitter_probability": 0.0, "blur_probability": 0.0}
ALWAYS: dict[str, Any] = {"rand_augment": 4, "rand_augment_probability": 1.0}


@pytest.mark.parametrize("stepwise", [False, True])
def test_a_row_is_the_same_beside_others_and_alone_and_gray_comes_last(stepwise: bool) -> None:
    options = ImageAugment(**PLAIN, **ALWAYS, gray_probability=1.0, stepwise_colors=stepwise)
    together = augmented(options)
    for row in range(ROWS):
        torch.testing.assert_close(augmented(options, slice(row, row + 1))[0], together[row])
    torch.testing.assert_close(together[:, 0], together[:, 2])
    colours = augmented(ImageAugment(**PLAIN, **ALWAYS, gray_probability=0.0))
    assert (colours - together)[:-1].abs().amax((1, 2, 3, 4)).min() > 0.05
    weights = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1, 1)
    gray = ((colours * 0.225 + 0.45) * weights).sum(1)
    torch.testing.assert_close(together[:, 0] * 0.225 + 0.45, gray, atol=1e-4, rtol=0)


def test_what_was_not_in_the_picture_has_the_mean_colour() -> None:
    given = pictures()
    number = list(OPERATIONS).index("translate_x")
    operations = Operations(np.full((ROWS, 1), number), np.ones((ROWS, 1)), np.zeros(ROWS, bool))
    operate(given, operations, FILL)
    border = given[:, :, 0, :, -SIDE // 4 :]
    torch.testing.assert_close(border, torch.tensor(FILL).view(1, 3, 1, 1).expand_as(border))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rand_augment = 17, must lie in \[0, 16\]"):
        ImageAugment(rand_augment=17)
    with pytest.raises(ValueError, match=r"rand_augment_magnitude = 11, must lie in \[0, 10\]"):
        VideoAugment(rand_augment_magnitude=11)
