"""The line about crops that are enlarged: when, and with which figures."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gdt import Plan
from pipelines.device.options import ImageAugment, VideoAugment
from pipelines.loading.stream import Stream
from tools.runs.config import Config
from tools.training.enlarged_crops import enlarged_crops, largest_side


def lines(frame_size: tuple[int, int] | None, draws: int = 2, **image: Any) -> list[str]:
    tables: dict[str, Any] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["image"]},
        "augmentation": {"relation": "invariant", "draws": draws},
    }
    plan = Plan.from_tables(tables)
    config = SimpleNamespace(build_plan=lambda: plan, image_augment=ImageAugment(**image))
    stream = SimpleNamespace(frame_size=frame_size)
    return list(enlarged_crops(cast("Stream", stream), cast("Config", config)))


def test_images_smaller_than_a_crop_are_warned_of() -> None:
    (line,) = lines((32, 32), size=224)
    assert line.startswith("warning: frames of 32×32 pixels are small for image_augment.size = 224")
    assert "the largest crop has 32" in line
    assert "build shards of larger frames (--size)" in line
    assert lines((224, 300), size=224) == []
    assert lines((32, 32), size=32) == []
    assert lines(None, size=224) == []


def test_each_recipe_has_a_line_of_its_own() -> None:
    views = ({"size": 64}, {"size": 32, "scales": [0.05, 0.14]})
    (small,) = lines((64, 64), size=64, views=views)
    assert "image_augment.size = 32: the largest crop has 24" in small


@pytest.mark.parametrize(
    ("recipe", "side"),
    [
        (VideoAugment(scales=(0.7, 0.875)), 0.875 * 100),
        (ImageAugment(scales=(0.2, 1.0)), 100),
        (ImageAugment(scales=(0.2, 0.25)), 75),
        (ImageAugment(scales=(1.0, 1.0), grid=3, patch_scales=(0.5, 0.64)), 100 / 3 * 0.8),
        (ImageAugment(scales=(1.0, 1.0), grid=7, window=0.25), 25),
    ],
)
def test_the_largest_crop(recipe: VideoAugment, side: float) -> None:
    assert largest_side(recipe, 225, 100) == pytest.approx(side)
