"""Colour jitter step by step: what torchvision's ColorJitter and RandomGrayscale do to a batch.

Brightness, contrast, saturation and hue follow one another in each row's own order, each clipped to
[0, 1], with hue shifted in HSV; so they cannot be one matrix, as `augment.recipe_of` makes them. A
step is done to all rows at once whose order has it at the same place.

Legend: N rows, T frames, S output size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.device.crop import Floats

__all__ = ["STEPS", "Steps", "make_gray", "take_steps"]

_GRAY: Final = (0.2989, 0.587, 0.114)  # as torchvision's rgb_to_grayscale has them


@dataclass(frozen=True)
class Steps:
    """What is done to the colours of rows.

    Attributes:
        order: int64 [N, 4], places of `STEPS`, the first one first.
        factors: float64 [N, 4], by the places of `STEPS`; turns for hue.
        gray: bool [N], whether a row becomes gray.
        gray_first: before the steps, or after them.
    """

    order: NDArray[np.int64]
    factors: Floats
    gray: NDArray[np.bool_]
    gray_first: bool

    def __getitem__(self, rows: slice) -> "Steps":
        return Steps(self.order[rows], self.factors[rows], self.gray[rows], self.gray_first)


def take_steps(pictures: Tensor, steps: Steps) -> None:
    """Change the colours of pictures [N, 3, T, S, S] in [0, 1], in place."""
    if steps.gray_first:
        make_gray(pictures, steps.gray)
    for place in range(len(STEPS)):
        for number, (name, step) in enumerate(STEPS.items()):
            factors = steps.factors[:, number]
            changes = factors != (0 if name == "hue" else 1)
            rows = np.flatnonzero((steps.order[:, place] == number) & changes)
            if len(rows):
                index = torch.from_numpy(rows).to(pictures.device)
                factor = torch.from_numpy(factors[rows]).to(pictures).view(-1, 1, 1, 1, 1)
                pictures[index] = step(pictures[index], factor).clamp_(0, 1)
    if not steps.gray_first:
        make_gray(pictures, steps.gray)


def make_gray(pictures: Tensor, which: NDArray[np.bool_]) -> None:
    """Make the named rows of pictures [N, 3, T, S, S] gray, in place."""
    if len(rows := np.flatnonzero(which)):
        index = torch.from_numpy(rows).to(pictures.device)
        pictures[index] = _gray(pictures[index]).expand(-1, 3, -1, -1, -1)


def _gray(pictures: Tensor) -> Tensor:
    red, green, blue = pictures.unbind(1)
    return (_GRAY[0] * red + _GRAY[1] * green + _GRAY[2] * blue)[:, None]


def _brightness(pictures: Tensor, factor: Tensor) -> Tensor:
    return pictures * factor


def _contrast(pictures: Tensor, factor: Tensor) -> Tensor:
    mean = _gray(pictures).mean(dim=(3, 4), keepdim=True)  # of each frame
    return mean + factor * (pictures - mean)


def _saturation(pictures: Tensor, factor: Tensor) -> Tensor:
    gray = _gray(pictures)
    return gray + factor * (pictures - gray)


def _hue(pictures: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue of HSV; the greatest and the least of R, G and B stay."""
    value, least = pictures.amax(1), pictures.amin(1)
    chroma = value - least
    red, green, blue = pictures.unbind(1)
    span = torch.where(chroma == 0, 1.0, chroma)
    hue = torch.where(  # in sixths of a turn
        value == red,
        (green - blue) / span,
        torch.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )
    hue = torch.where(chroma == 0, 0.0, hue) + 6 * turns.squeeze(1)
    channels = []
    for offset in (5, 3, 1):  # R, G, B: how far each lies below the greatest
        place = (hue + offset).remainder(6)
        below = torch.minimum(place, 4 - place).clamp(0, 1)
        channels.append(value - chroma * below)
    return torch.stack(channels, dim=1)


#: Name → (pictures [n, 3, T, S, S], factors [n, 1, 1, 1, 1]) → changed ones, not yet clipped.
STEPS: Final[Mapping[str, Callable[[Tensor, Tensor], Tensor]]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
