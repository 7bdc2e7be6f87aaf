"""The recipes of the papers, as the configs have them, are torchvision's operations one by one."""

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from pipelines.color import lab_from_rgb
from pipelines.device.augment import augment_frames, recipe_of
from pipelines.device.options import ImageAugment, VideoAugment
from pipelines.device.picture_options import CHANNELS
from pipelines.device.rand_augment import OPERATIONS
from pipelines.device.stepwise import STEPS, Steps, take_steps
from pipelines.sampling.draws import uniform
from tests.pipelines.device.test_patches import sampled
from tests.pipelines.device.test_rand_augment import by_torchvision as operated

CONFIGS = Path(__file__).parents[3] / "configs"
SIDE, ROWS = 64, 24
RGB = np.concatenate([np.eye(3) / 255, np.zeros((3, 1))], axis=1)  # of packed pixels
#: What the papers take for ImageNet, where the configs' CPU sizes differ from it.
PAPERS: dict[str, tuple[dict[str, Any], ...]] = {
    "simclr": ({"scales": [0.08, 1.0], "brightness": 0.8, "contrast": 0.8, "saturation": 0.8,
                "hue": 0.2, "jitter_probability": 0.8, "gray_probability": 0.2,
                "blur_probability": 0.5},),
    "moco v1 and instdisc": ({"scales": [0.2, 1.0], "jitter_probability": 1.0, "hue": 0.4,
                              "gray_probability": 0.2, "gray_first": True,
                              "blur_probability": 0.0},),
    "moco v2": ({"scales": [0.2, 1.0], "jitter_probability": 0.8, "hue": 0.1},),
    "infomin": ({"scales": [0.2, 1.0], "brightness": 0.8, "contrast": 0.8, "saturation": 0.8,
                 "hue": 0.2, "rand_augment": 2},),
    "byol": ({"scales": [0.08, 1.0], "saturation": 0.2, "blur_probability": 1.0},
             {"scales": [0.08, 1.0], "saturation": 0.2, "blur_probability": 0.1,
              "solarize_probability": 0.2}),
}  # fmt: skip


def drawn(seed: int) -> Any:
    """Uniform numbers of rows, by name, as a transform draws them."""

    def draw(name: str, count: int = 0) -> np.ndarray:
        table = uniform(seed, 1, np.arange(ROWS)[:, None], name, np.arange(max(1, count)))
        return table if count else table[:, 0]

    return draw


def frames(generator: torch.Generator) -> Tensor:
    """Pictures of all colours, smooth: packed uint8 [N, 1, S, S, 3]."""
    coarse = torch.rand(ROWS, 3, 6, 6, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, SIDE, mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8).permute(0, 2, 3, 1)[:, None].contiguous()


def by_torchvision(picture: Tensor, options: VideoAugment, recipe: Any, row: int) -> Tensor:
    """One picture [3, H, W] in [0, 1], by torchvision's functions with the drawn parameters."""
    top, left, height, width = recipe.boxes[row] / SIDE
    box = torch.tensor([top, min(left, left + width), height, abs(width)])
    out = sampled(picture, box, options.size)
    if width < 0:
        out = vision.horizontal_flip(out)
    steps: Steps = recipe.steps
    if steps.gray[row] and steps.gray_first:
        out = vision.rgb_to_grayscale(out, 3)
    for number in steps.order[row]:
        name, factor = list(STEPS)[number], float(steps.factors[row, number])
        out = getattr(vision, f"adjust_{name}")(out, factor)
    if steps.gray[row] and not steps.gray_first:
        out = vision.rgb_to_grayscale(out, 3)
    if sigma := float(recipe.sigmas[row]):
        radius = min(int(np.ceil(3 * options.blur_sigmas[1])), options.size // 2 - 1)
        out = vision.gaussian_blur(out, [2 * radius + 1] * 2, [sigma] * 2)
    if operations := recipe.operations:
        for number, strength in zip(operations.which[row], operations.strengths[row], strict=True):
            if number >= 0:
                out = operated(list(OPERATIONS)[number], out, float(strength), options.mean)
                out = out.clamp(0, 1)
        if operations.gray[row]:
            out = vision.rgb_to_grayscale(out, 3)
    if recipe.solarized[row]:
        out = vision.solarize(out, options.solarize_threshold)
    if options.channels == "lab":
        out = lab_from_rgb(out[None])[0]
    normalised: Tensor = vision.normalize(out, list(options.mean), list(options.std))
    if options.channels == "sobel":  # the authors' have the other sign
        gray = normalised.mean(0).numpy()
        both = [-ndimage.sobel(gray, axis, mode="constant") for axis in (1, 0)]
        return torch.from_numpy(np.stack(both))
    return normalised


def recipes() -> list[tuple[str, VideoAugment]]:
    """Every recipe of the configs of images, and the papers'; steps as torchvision has them."""
    found = []
    for path in sorted(CONFIGS.glob("*.toml")):
        config = tomllib.loads(path.read_text())
        if "image_augment" in config and "image" in config["plan"]["modality"]["values"]:
            draws = config["plan"].get("augmentation", {}).get("draws", 1)
            table: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v
                     for k, v in config["image_augment"].items()}  # fmt: skip
            augment = ImageAugment(**table, stepwise_colors=True)
            unique = {str(r): r for r in augment.recipes(draws) if r.grid == 1}
            found += [(f"{path.stem} {n}", r) for n, r in enumerate(unique.values())]
    for name, views in PAPERS.items():
        augment = ImageAugment(size=40, stepwise_colors=True, views=views)
        found += [(f"{name} {n}", r) for n, r in enumerate(augment.recipes(len(views)))]
    return found


RECIPES = recipes()


def test_there_are_recipes_of_most_methods() -> None:
    names = {name.rpartition(" ")[0] for name, _ in RECIPES}
    assert {"simclr", "moco", "byol", "swav", "dino", "cmc", "pirl", "mae"} <= names


@pytest.mark.parametrize(("name", "options"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_is_torchvisions_operations(name: str, options: VideoAugment) -> None:
    packed, draw = frames(torch.Generator().manual_seed(0)), drawn(len(name))
    out = torch.empty(ROWS, CHANNELS[options.channels], 1, options.size, options.size)
    augment_frames(packed, SIDE, SIDE, RGB, options, draw, out)
    recipe = recipe_of(options, draw, ROWS, SIDE, SIDE, RGB)
    scale = 100.0 if options.channels == "lab" else 1.0
    for row in range(ROWS):
        picture = packed[row, 0].permute(2, 0, 1) / 255
        expected = by_torchvision(picture, options, recipe, row)
        # a hue is not continuous where a pixel is gray, nor is solarizing at its threshold
        std = torch.tensor(options.std).view(3, 1, 1)
        std = std.mean() if options.channels == "sobel" else std
        apart = (out[row, :, 0] - expected).abs() * std
        assert (apart > 2e-3 * scale).float().mean() < 0.002
        assert apart.median() < 1e-5 * scale


@pytest.mark.parametrize("factor", [-0.5, -0.21, 0.03, 0.4])
def test_hue_is_torchvisions_of_every_colour(factor: float) -> None:
    levels = torch.linspace(0, 1, 17, dtype=torch.float64)
    cube = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij")).view(3, 17, -1)
    pictures = cube[None, :, None].clone()
    factors = np.array([[1.0, 1.0, 1.0, factor]])
    take_steps(pictures, Steps(np.array([[3, 0, 1, 2]]), factors, np.array([False]), False))
    torch.testing.assert_close(
        pictures[0, :, 0], vision.adjust_hue(cube, factor), rtol=0, atol=1e-6
    )


def test_composed_steps_are_the_same_where_nothing_is_clipped_and_hue_stays() -> None:
    packed = (frames(torch.Generator().manual_seed(1)) // 8) + 80  # from 0.31 to 0.44
    augment = ImageAugment(size=24, hue=0.0, jitter_probability=1.0, gray_probability=0.3)
    stepwise = ImageAugment(
        size=24, hue=0.0, jitter_probability=1.0, gray_probability=0.3, stepwise_colors=True
    )
    first, second = (torch.empty(ROWS, 3, 1, 24, 24) for _ in range(2))
    augment_frames(packed, SIDE, SIDE, RGB, augment, drawn(3), first)
    augment_frames(packed, SIDE, SIDE, RGB, stepwise, drawn(3), second)
    torch.testing.assert_close(
        first, second, atol=3e-3, rtol=0
    )  # their gray differs in the 4th digit
    assert not torch.equal(first[0], first[1])


def test_gray_comes_first_where_asked() -> None:
    packed = frames(torch.Generator().manual_seed(2))
    options: dict[str, Any] = {"size": 24, "gray_probability": 1.0, "blur_probability": 0.0}
    options |= {"jitter_probability": 1.0, "brightness": 0.8, "stepwise_colors": True}
    outs = []
    for gray_first in (False, True):
        out = torch.empty(ROWS, 3, 1, 24, 24)
        augment = ImageAugment(**options, gray_first=gray_first)
        augment_frames(packed, SIDE, SIDE, RGB, augment, drawn(5), out)
        torch.testing.assert_close(out[:, 0], out[:, 1])
        outs.append(out)
    assert (outs[0] - outs[1]).abs().max() > 0.05  # colours were clipped before they were gray
    with pytest.raises(ValueError, match="gray_first = true does nothing without stepwise_colors"):
        ImageAugment(gray_first=True)
