"""RandAugment on a batch: rows are turned, sheared, moved, or changed in colour, as each draws it.

Every row draws some of fifteen operations, one after the other, and how strong each is. An
operation is done at once to all rows that have it at the same place. Cubuk et al. 2019
(arXiv:1909.13719), with the operations, strengths and chances of InfoMin's code (PyContrast, from
timm); but interpolation is always bilinear, where that draws it or bicubic.

Legend: N rows, K operations of a row, n rows that have one of them, T frames, S output size.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.device.crop import Floats, Uniform
from pipelines.device.picture_options import MOST_MAGNITUDE, VideoAugment
from pipelines.device.stepwise import STEPS, make_gray

__all__ = ["OPERATIONS", "Operations", "draw_operations", "operate"]

_LEVELS: Final = 256


@dataclass(frozen=True)
class Operations:
    """What is done to rows.

    Attributes:
        which: int64 [N, K], places of `OPERATIONS`, the first one first; −1 for none.
        strengths: float64 [N, K], shares of the greatest, in [−1, 1]; negative ones turn, shear and
            move the other way, and are as strong for all others.
        gray: bool [N], whether a row becomes gray after them.
    """

    which: NDArray[np.int64]
    strengths: Floats
    gray: NDArray[np.bool_]

    def __getitem__(self, rows: slice) -> "Operations":
        return Operations(self.which[rows], self.strengths[rows], self.gray[rows])


def draw_operations(options: VideoAugment, draw: Uniform, gray: NDArray[np.bool_]) -> Operations:
    """Draw operations with replacement, each done or not, and magnitudes from a cut normal."""
    count = options.rand_augment
    which = np.floor(draw("operation", count) * len(OPERATIONS)).astype(np.int64)
    which[draw("operation_on", count) >= options.rand_augment_probability] = -1
    radius, angle = np.split(draw("operation_magnitude", 2 * count), 2, axis=1)
    normal = np.sqrt(-2 * np.log(1 - radius)) * np.cos(2 * np.pi * angle)  # Box and Muller's
    magnitudes = options.rand_augment_magnitude + options.rand_augment_std * normal
    strengths = np.clip(magnitudes, 0, MOST_MAGNITUDE) / MOST_MAGNITUDE
    signs = np.where(draw("operation_sign", count) < 0.5, -1, 1)
    return Operations(which, signs * strengths, gray)


def operate(pictures: Tensor, operations: Operations, fill: tuple[float, float, float]) -> None:
    """Change pictures [N, 3, T, S, S] in [0, 1], in place.

    Args:
        pictures: R, G and B.
        operations: of the rows.
        fill: R, G and B of what was not in a picture before it was turned, sheared or moved.
    """
    for place in range(operations.which.shape[1]):
        for number, operation in enumerate(OPERATIONS.values()):
            rows = np.flatnonzero(operations.which[:, place] == number)
            if len(rows):
                index = torch.from_numpy(rows).to(pictures.device)
                ground = pictures.new_tensor(fill).view(1, 3, 1, 1, 1)
                changed = operation(pictures[index], operations.strengths[rows, place], ground)
                pictures[index] = changed.clamp_(0, 1)
    make_gray(pictures, operations.gray)


def _by_row(numbers: Floats, like: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(like).view(-1, 1, 1, 1, 1)


def _autocontrast(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """Stretch each channel of each frame from black to white."""
    least, greatest = pictures.amin((3, 4), keepdim=True), pictures.amax((3, 4), keepdim=True)
    is_flat = least == greatest
    span = torch.where(is_flat, 1.0, greatest - least)
    return (pictures - torch.where(is_flat, 0.0, least)) / span


def _equalize(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """Spread the 8-bit levels of each channel of each frame evenly, as PIL does."""
    levels = (pictures * (_LEVELS - 1e-3)).long().flatten(3).flatten(0, 2)  # planes × S·S
    first = _LEVELS * torch.arange(len(levels), device=levels.device)[:, None]
    index, num_pixels = (levels + first).flatten(), levels.shape[1]
    counts = torch.zeros(_LEVELS * len(levels), dtype=torch.int64, device=levels.device)
    counts = counts.scatter_add_(0, index, torch.ones_like(index)).view(-1, _LEVELS)
    highest = counts.gather(1, levels.amax(1, keepdim=True))
    step = (num_pixels - highest) // (_LEVELS - 1)  # pixels of a level of the result
    below = counts.cumsum(1) - counts
    spread = ((below + step // 2) // step.clamp(min=1)).clamp(max=_LEVELS - 1)
    found = torch.where(step == 0, levels, spread.gather(1, levels))
    return found.view(pictures.shape).to(pictures) / (_LEVELS - 1)


def _invert(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    return 1 - pictures


def _posterize(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """Keep the 4 highest bits of 8; of weaker ones less, so that the strongest is the mildest."""
    steps = _by_row(2 ** np.floor(4 * np.abs(strengths)), pictures)
    return (pictures * steps).floor().clamp(min=0).minimum(steps - 1) / steps


def _solarize(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """Invert what is as bright as a threshold: white of the strongest, which changes nothing."""
    threshold = _by_row(np.floor(_LEVELS * np.abs(strengths)) / (_LEVELS - 1), pictures)
    return torch.where(pictures >= threshold, 1 - pictures, pictures)


def _solarize_add(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """Brighten what is darker than the middle."""
    more = _by_row(np.floor(110 * np.abs(strengths)) / (_LEVELS - 1), pictures)
    return torch.where(pictures < 128 / (_LEVELS - 1), pictures + more, pictures)


def _enhanced(step: str) -> Callable[[Tensor, Floats, Tensor], Tensor]:
    """A step of colour jitter by a factor of up to 1.9; from 0.1, and 1 changes nothing."""

    def operation(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
        return STEPS[step](pictures, _by_row(_factors(strengths), pictures))

    return operation


def _factors(strengths: Floats) -> Floats:
    return np.asarray(0.1 + 1.8 * np.abs(strengths))


def _sharpness(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """Away from a smoothed picture, but for the outermost pixels."""
    kernel = pictures.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).div_(13).view(1, 1, 3, 3)
    planes = pictures.flatten(0, 2)[:, None]
    smooth = pictures.clone()
    smooth[..., 1:-1, 1:-1] = F.conv2d(planes, kernel).view_as(pictures[..., 1:-1, 1:-1])
    return smooth + _by_row(_factors(strengths), pictures) * (pictures - smooth)


def _rotate(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """By up to 30 degrees about the middle."""
    angles = math.radians(30) * strengths
    cos, sin, none = np.cos(angles), np.sin(angles), np.zeros_like(angles)
    return _moved(pictures, [[cos, -sin, none], [sin, cos, none]], fill)


def _shear_x(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """By up to 0.3; the top edge stays."""
    one, none, by = np.ones_like(strengths), np.zeros_like(strengths), 0.3 * strengths
    return _moved(pictures, [[one, by, by], [none, one, none]], fill)


def _shear_y(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """By up to 0.3; the left edge stays."""
    one, none, by = np.ones_like(strengths), np.zeros_like(strengths), 0.3 * strengths
    return _moved(pictures, [[one, none, none], [by, one, by]], fill)


def _translate_x(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """By up to 0.45 of the side."""
    one, none = np.ones_like(strengths), np.zeros_like(strengths)
    return _moved(pictures, [[one, none, 0.9 * strengths], [none, one, none]], fill)


def _translate_y(pictures: Tensor, strengths: Floats, fill: Tensor) -> Tensor:
    """By up to 0.45 of the side."""
    one, none = np.ones_like(strengths), np.zeros_like(strengths)
    return _moved(pictures, [[one, none, none], [none, one, 0.9 * strengths]], fill)


def _moved(pictures: Tensor, maps: list[list[Floats]], fill: Tensor) -> Tensor:
    """Look each pixel up at its place under maps [2][3] of rows, over places in [−1, 1]."""
    theta = torch.from_numpy(np.stack([np.stack(row, -1) for row in maps], 1)).to(pictures)
    planes = (pictures - fill).flatten(1, 2)  # n × 3·T × S × S
    grid = F.affine_grid(theta, list(planes.shape), align_corners=False)
    return F.grid_sample(planes, grid, align_corners=False).view(pictures.shape) + fill


#: Name → (pictures [n, 3, T, S, S] in [0, 1], strengths [n], fill [1, 3, 1, 1, 1]) → changed ones,
#: not yet clipped.
OPERATIONS: Final[Mapping[str, Callable[[Tensor, Floats, Tensor], Tensor]]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "solarize_add": _solarize_add,
    "saturation": _enhanced("saturation"),
    "contrast": _enhanced("contrast"),
    "brightness": _enhanced("brightness"),
    "sharpness": _sharpness,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
