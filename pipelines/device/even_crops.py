"""Several squares of a frame in evaluation: from one end of its longer side to the other.

One of them is the middle one; with three they are left, centre and right of a wide frame, as video
classifiers are tested (Feichtenhofer et al. 2019, arXiv:1812.03982, §4). Such a square is a random
crop whose draws are said beforehand, with every other random step switched off.
"""

from dataclasses import replace
from typing import Any, Final, TypeVar

import numpy as np

from pipelines.device.crop import Floats, Uniform
from pipelines.device.options import VideoAugment

__all__ = ["even_crop"]

Options = TypeVar("Options", bound=VideoAugment)

#: What is switched off: all that a draw would decide, or how much of it.
_CHANCES: Final = (
    "flip_probability",
    "jitter_probability",
    "gray_probability",
    "blur_probability",
    "solarize_probability",
    "brightness",
    "contrast",
    "saturation",
    "hue",
)


def even_crop(
    options: Options, crop: int, num_crops: int, num_rows: int, height: int, width: int
) -> tuple[Options, Uniform]:
    """What cuts one of evenly spaced squares: a recipe without chance, and its draws.

    Args:
        options: of the encoder's pictures; `center_scale` is the side of the squares.
        crop: which, zero-based.
        num_crops: of how many.
        num_rows: N.
        height: of the frames.
        width: of the frames.
    """
    place = 0.5 if num_crops == 1 else crop / (num_crops - 1)
    along = "crop_left" if width >= height else "crop_top"

    def draw(name: str, count: int = 0) -> Floats:
        return np.full((num_rows, count) if count else num_rows, place if name == along else 0.5)

    off: dict[str, Any] = {**dict.fromkeys(_CHANCES, 0.0), "rand_augment": 0}
    side = (options.center_scale, options.center_scale)
    return replace(options, crop="random", scales=side, views=(), frame_crops=False, **off), draw
