"""Where to cut, and cutting: boxes from draws, and one bilinear resampling of the YUV planes.

Planes are cut, flipped and resized before they become RGB: that touches only the pixels that are
kept, and brings the chroma to the luma's grid on the way. The frames of a row are the channels of
one `grid_sample`, so they share one box and its weights. (On one core, 30 frames of 224×128 to
112²: 2.5 ms; as two matrix products 4.0; RGB first and then resized 6.9.)

Legend: N rows, T frames, H W luma size, S output size. A box is (top, left, height, width) in luma
pixels, float64, its edges between pixels: the whole frame is (0, 0, H, W).
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.color import i420_planes

__all__ = ["CROPS", "Uniform", "center_boxes", "resample"]

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


#: Name of a crop → (draw, height, width, scales, aspects) → boxes [N, 4].
CROPS: Final[
    Mapping[str, Callable[[Uniform, int, int, tuple[float, float], tuple[float, float]], Floats]]
] = {"random": random_boxes, "random_resized": random_resized_boxes}


def resample(
    frames: Tensor, height: int, width: int, boxes: Floats, flip: NDArray[np.bool_], size: int
) -> Tensor:
    """Cut each row's box out of its planes, mirror it where `flip` says so, and resize it to S×S.

    Args:
        frames: uint8 [N, T, H·W·3/2], I420 with chroma sited left, as H.264 and VP9 have it; or
            [N, T, H, W, 3], packed.
        height: H.
        width: W.
        boxes: float64 [N, 4].
        flip: bool [N], left to right.
        size: S.

    Returns:
        float32 [N, 4, T, S, S]: the three components in 8-bit steps, bilinear, the frame's edge
        repeated; and a 1 for the affine maps of color.py.
    """
    num_rows, num_frames = frames.shape[:2]
    top, left, box_height, box_width = boxes.T
    left = np.where(flip, left + box_width, left)
    box_width = np.where(flip, -box_width, box_width)
    centers = (np.arange(size) + 0.5) / size
    ys = top[:, None] + box_height[:, None] * centers  # [N, S], in luma pixels
    xs = left[:, None] + box_width[:, None] * centers
    out = frames.new_empty((num_rows, 4, num_frames, size, size), dtype=torch.float32)
    out[:, 3] = 1
    if frames.dim() == 5:
        packed = frames.permute(0, 4, 1, 2, 3).flatten(1, 2)  # [N, 3·T, H, W]
        out[:, :3] = _sample(packed, ys / height, xs / width).unflatten(1, (3, num_frames))
        return out
    y, u, v = i420_planes(frames, height, width)
    out[:, 0] = _sample(y, ys / height, xs / width)
    chroma_ys, chroma_xs = ys / height, (xs + 0.5) / width  # chroma lies ¼ of its pixel to the left
    out[:, 1] = _sample(u, chroma_ys, chroma_xs)
    out[:, 2] = _sample(v, chroma_ys, chroma_xs)
    return out


def _sample(plane: Tensor, ys: Floats, xs: Floats) -> Tensor:
    """Bilinear samples of planes [N, T, h, w] at the fractions ys × xs of height and width."""
    x = torch.from_numpy(2 * xs - 1).to(plane.device, torch.float32)
    y = torch.from_numpy(2 * ys - 1).to(plane.device, torch.float32)
    size = (x.shape[0], y.shape[1], x.shape[1])
    grid = torch.stack([x[:, None, :].expand(size), y[:, :, None].expand(size)], dim=-1)
    return F.grid_sample(
        plane.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
