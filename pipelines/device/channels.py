"""What an encoder sees of a picture: R, G and B, CIE Lab, or how bright it grows along x and y.

Legend: N rows, C channels, H W pixels.
"""

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from pipelines.color import lab_from_rgb
from pipelines.device.picture_options import VideoAugment

__all__ = ["column", "encoder_channels"]

#: Differences along x and along y, with the signs of DeepCluster's code.
_SOBEL: Final = (
    ((1, 0, -1), (2, 0, -2), (1, 0, -1)),
    ((1, 2, 1), (0, 0, 0), (-1, -2, -1)),
)


def encoder_channels(pictures: Tensor, options: VideoAugment) -> Tensor:
    """Pictures [N, 3, T, H, W] of R, G and B in [0, 1] → normalised channels [N, C, T, H, W].

    "sobel" takes the mean of the three normalised channels through two filters; beyond the border
    lies the mean colour (Caron et al. 2018, arXiv:1807.05520, §3, and the authors' code).
    """
    if options.channels == "lab":
        pictures = lab_from_rgb(pictures)
    normal = (pictures - column(options.mean, pictures)) / column(options.std, pictures)
    if options.channels != "sobel":
        return normal
    gray = normal.mean(dim=1).flatten(0, 1)[:, None]  # N·T × 1 × H × W
    found: Tensor = F.conv2d(gray, normal.new_tensor(_SOBEL)[:, None], padding=1)
    return found.view(len(normal), -1, *found.shape[1:]).transpose(1, 2)


def column(numbers: tuple[float, ...], like: Tensor) -> Tensor:
    """One number a channel, to go with pictures [N, 3, T, H, W]."""
    return torch.tensor(numbers, dtype=like.dtype, device=like.device).view(1, 3, 1, 1, 1)
