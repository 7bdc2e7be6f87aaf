"""Warn of crops that are enlarged: frames smaller than what the encoder is to see."""

import math
from collections.abc import Iterator

from pipelines.device.options import VideoAugment
from pipelines.loading.stream import Stream
from tools.runs.config import Config


def enlarged_crops(stream: Stream, config: Config) -> Iterator[str]:
    """A line for each recipe of crops whose largest has fewer pixels than it is resized to."""
    if stream.frame_size is None:
        return
    width, height = stream.frame_size
    plan = config.build_plan()
    for modality in plan.modalities:
        if modality not in ("video", "image"):
            continue
        augment: VideoAugment = getattr(config, f"{modality}_augment")
        sizes = {
            (recipe.size, largest_side(recipe, width, height))
            for recipe in augment.recipes(plan.draws("augmentation"))
        }
        for size, side in sorted(sizes):
            if size > math.ceil(side):
                yield (
                    f"warning: frames of {width}×{height} pixels are small for "
                    f"{modality}_augment.size = {size}: the largest crop has {side:.0f}, so that "
                    "every one is enlarged. Lower size, or build shards of larger frames (--size)"
                )


def largest_side(recipe: VideoAugment, width: int, height: int) -> float:
    """The side of the largest square that a recipe cuts out of frames, in pixels."""
    short = min(width, height)
    side = recipe.scales[1] * short
    if recipe.crop == "random_resized":
        side = min(short, math.sqrt(recipe.scales[1] * width * height))
    if recipe.grid > 1:
        side *= (recipe.window or 1 / recipe.grid) * math.sqrt(recipe.patch_scales[1])
    return side
