"""Where to cut: boxes from draws. Cutting them out is cut.py.

Legend: N rows, H W luma size, S output size. A box is (top, left, height, width) in luma
pixels, float64, its edges between pixels: the whole frame is (0, 0, H, W).
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["CROPS", "Floats", "Uniform", "center_boxes", "patch_boxes"]

Floats = NDArray[np.float64]
#: Name of a draw → uniform numbers in [0, 1), float64 [N]; with a count n, [N, n].
Uniform = Callable[..., Floats]

_ATTEMPTS = 10  # as torchvision's RandomResizedCrop


def center_boxes(num_rows: int, height: int, width: int, scale: float) -> Floats:
    """The middle square whose side is `scale` of the short side, float64 [N, 4]."""
    side = scale * min(height, width)
    box = ((height - side) / 2, (width - side) / 2, side, side)
    return np.tile(np.array(box), (num_rows, 1))


def random_boxes(
    draw: Uniform,
    height: int,
    width: int,
    scales: tuple[float, float],
    aspects: tuple[float, float],
) -> Floats:
    """Squares somewhere in the frame, float64 [N, 4].

    The same as resizing the short side to S / scale (uniform in that size) and cutting S×S out of
    it: scales (0.7, 0.875) are the reference GDT recipe's 128 to 160 pixels for a crop of 112.
    """
    largest, smallest = 1 / scales[0], 1 / scales[1]
    side = min(height, width) / (smallest + draw("crop_scale") * (largest - smallest))
    top, left = draw("crop_top") * (height - side), draw("crop_left") * (width - side)
    return np.stack([top, left, side, side], axis=1)


def random_resized_boxes(
    draw: Uniform,
    height: int,
    width: int,
    scales: tuple[float, float],
    aspects: tuple[float, float],
) -> Floats:
    """Boxes of random area (`scales`, shares of the frame) and aspect (width / height), [N, 4].

    As torchvision's RandomResizedCrop (Inception's crop), without its rounding to whole pixels: the
    first of ten attempts that fits, else the middle of the frame at the nearest allowed aspect.
    """
    area = scales[0] + draw("crop_area", _ATTEMPTS) * (scales[1] - scales[0])  # [N, 10]
    low, high = np.log(aspects)
    aspect = np.exp(low + draw("crop_aspect", _ATTEMPTS) * (high - low))
    widths = np.sqrt(area * height * width * aspect)
    heights = np.sqrt(area * height * width / aspect)
    fits = (widths <= width) & (heights <= height)
    first = fits.argmax(axis=1)[:, None]
    w, h = (np.take_along_axis(sizes, first, axis=1)[:, 0] for sizes in (widths, heights))
    nearest = min(max(width / height, aspects[0]), aspects[1])
    w = np.where(fits.any(axis=1), w, min(width, height * nearest))
    h = np.where(fits.any(axis=1), h, min(height, width / nearest))
    return np.stack([draw("crop_top") * (height - h), draw("crop_left") * (width - w), h, w], 1)


def patch_boxes(
    boxes: Floats,
    patch: int,
    grid: int,
    window: float,
    draw: Uniform,
    scales: tuple[float, float],
    aspects: tuple[float, float],
) -> Floats:
    """A box of random area and aspect in one of the windows of each crop, float64 [N, 4].

    The same as resizing the crop to a square, cutting it into windows and a RandomResizedCrop out
    of each: jigsaw pieces of PIRL (arXiv:1912.01991) and the patches of a contrastive random walk
    (arXiv:2006.14613).

    Args:
        boxes: the crops, [N, 4]; a mirrored one is cut as it is seen.
        patch: which window, row by row.
        grid: windows in a row and in a column; the outer ones reach to the crop's edge.
        window: a window's side, share of the crop's; 0 for 1 / grid.
        draw: uniform numbers of this patch.
        scales: least and greatest area, share of the window's.
        aspects: least and greatest width / height, where the window has 1.
    """
    side = window or 1 / grid
    first = np.array(divmod(patch, grid)) * (1 - side) / max(1, grid - 1)  # top and left
    inside = random_resized_boxes(draw, 1, 1, scales, aspects)  # shares of the window
    places = np.concatenate([first + inside[:, :2] * side, inside[:, 2:] * side], axis=1)
    sizes = np.tile(boxes[:, 2:], 2)  # height, width, height, width
    return places * sizes + boxes * (1, 1, 0, 0)


#: Name of a crop → (draw, height, width, scales, aspects) → boxes [N, 4].
CROPS: Final[
    Mapping[str, Callable[[Uniform, int, int, tuple[float, float], tuple[float, float]], Floats]]
] = {"random": random_boxes, "random_resized": random_resized_boxes}
