"""Convert planar YUV 4:2:0 to RGB and jitter colours: all affine, so all of it is one small matrix.

A frame is one flat row of H·W·3/2 bytes (I420: Y, then U, then V at half the height and width), as
decoders leave it. Conversion and jitter are composed on 3×4 matrices first and applied to the
pixels once, by whoever holds the pixels.

Legend: N rows, T frames, H W luma size.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

__all__ = [
    "COLOR_MATRICES",
    "COLOR_RANGES",
    "JITTERS",
    "PIXELS",
    "compose",
    "i420_planes",
    "i420_to_rgb",
    "jitterable",
    "lab_from_rgb",
    "rgb_from_lab",
    "rgb_from_pixels",
    "rgb_from_yuv",
]

#: Matrix → (K_r, K_b): the luma weights of red and blue (ITU-T H.273, table 4).
COLOR_MATRICES: Final[Mapping[str, tuple[float, float]]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
    "bt2020": (0.2627, 0.0593),
    "smpte240m": (0.212, 0.087),
}
#: Range → (luma of black, luma steps to white, chroma steps to ±½), in 8 bits.
COLOR_RANGES: Final[Mapping[str, tuple[float, float, float]]] = {
    "limited": (16.0, 219.0, 224.0),
    "full": (0.0, 255.0, 255.0),
}
#: What frames may hold: planes as they were coded, or RGB that a decoder made with BT.601's matrix
#: whatever the stream says, as DALI does (with the range of the stream; rounded, clipped).
PIXELS: Final = ("i420", "rgb_bt601")
#: Luma as torchvision's rgb_to_grayscale and the reference GDT code weigh it.
_GRAY: Final = np.array([0.299, 0.587, 0.114])

Affine = NDArray[np.float64]


def rgb_from_yuv(color_matrix: str, color_range: str) -> Affine:
    """The affine map from 8-bit Y, U, V to R, G, B in [0, 1]: float64 [3, 4], last column added.

    Raises:
        ValueError: an unknown matrix or range.
    """
    if color_matrix not in COLOR_MATRICES:
        raise ValueError(
            f"color matrix {color_matrix!r} is unknown; known are {', '.join(COLOR_MATRICES)}"
        )
    if color_range not in COLOR_RANGES:
        raise ValueError(
            f"color range {color_range!r} is unknown; known are {', '.join(COLOR_RANGES)}"
        )
    k_r, k_b = COLOR_MATRICES[color_matrix]
    k_g = 1 - k_r - k_b
    black, luma_steps, chroma_steps = COLOR_RANGES[color_range]
    u_b, v_r = 2 * (1 - k_b), 2 * (1 - k_r)
    linear = np.array(
        [[1, 0, v_r], [1, -u_b * k_b / k_g, -v_r * k_r / k_g], [1, u_b, 0]]
    ) / np.array([luma_steps, chroma_steps, chroma_steps])
    return np.column_stack([linear, -linear @ np.array([black, 128, 128])])


def rgb_from_pixels(pixels: str, color_matrix: str, color_range: str) -> Affine:
    """The affine map from what frames hold to R, G, B in [0, 1]: float64 [3, 4].

    Args:
        pixels: of `PIXELS`.
        color_matrix: the stream's, of `COLOR_MATRICES`.
        color_range: the stream's, of `COLOR_RANGES`.

    Raises:
        ValueError: an unknown kind of pixels, matrix or range.
    """
    if pixels not in PIXELS:
        raise ValueError(f"pixels = {pixels!r}, must be one of {', '.join(PIXELS)}")
    from_yuv = rgb_from_yuv(color_matrix, color_range)
    if pixels == "i420":
        return from_yuv
    wrong = rgb_from_yuv("bt601", color_range)
    back = np.linalg.inv(wrong[:, :3])
    to_yuv = np.column_stack([back / 255, -back @ wrong[:, 3]])
    return compose(from_yuv, to_yuv)


def compose(second: Affine, first: Affine) -> Affine:
    """The affine map that applies `first`, then `second`; both [..., 3, 4]."""
    linear = second[..., :3] @ first[..., :3]
    shift = second[..., :3] @ first[..., 3:] + second[..., 3:]
    return np.concatenate([linear, shift], axis=-1)


def jitterable(affine: Affine, num_rows: int) -> Affine:
    """The same map for each row, as `JITTERS` change it: float64 [N, 3, 7].

    Its columns are factors of Y, U, V, of 1, and of the means of Y, U and V over a row's frames,
    which are not known yet: contrast blends with the mean gray, and that is linear in them.
    """
    return np.tile(np.concatenate([affine, np.zeros((3, 3))], axis=1), (num_rows, 1, 1))


def _brightness(factor: NDArray[np.float64], maps: Affine) -> Affine:
    return factor[:, None, None] * maps


def _contrast(factor: NDArray[np.float64], maps: Affine) -> Affine:
    mean_gray = _GRAY @ maps  # [N, 7]
    mean_gray[:, 4:] += mean_gray[:, :3]
    mean_gray[:, :3] = 0
    return _blend(factor, maps, mean_gray)


def _saturation(factor: NDArray[np.float64], maps: Affine) -> Affine:
    return _blend(factor, maps, _GRAY @ maps)


def _blend(factor: NDArray[np.float64], maps: Affine, gray: NDArray[np.float64]) -> Affine:
    f = factor[:, None, None]
    return np.asarray(f * maps + (1 - f) * gray[:, None])


def _hue(turns: NDArray[np.float64], maps: Affine) -> Affine:
    """A rotation of the chroma plane (YIQ), as DALI's color_twist has it, not a shift in HSV."""
    to_yiq = np.array([_GRAY, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
    cos, sin = np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)
    rotation = np.zeros((len(turns), 3, 3))
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1] = rotation[:, 2, 2] = cos
    rotation[:, 1, 2], rotation[:, 2, 1] = sin, -sin
    return np.asarray(np.linalg.inv(to_yiq) @ rotation @ to_yiq @ maps)


#: Name → (factors [N], maps to RGB in [0, 1] of `jitterable`) → maps [N, 3, 7]. A factor of 1
#: changes nothing (0 for hue, which is in turns). Brightness, contrast and saturation blend with
#: black, the mean gray and the pixel's gray, as torchvision's do.
JITTERS: Final[Mapping[str, Callable[[NDArray[np.float64], Affine], Affine]]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}


def i420_planes(frames: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Views of Y [..., H, W] and of U and V [..., 2, H/2, W/2] in frames [..., H·W·3/2]."""
    luma, quarter = height * width, height * width // 4
    if frames.shape[-1] != luma + 2 * quarter:
        raise ValueError(
            f"frames of {frames.shape[-1]} bytes are not I420 of {width}×{height}, "
            f"which takes {luma + 2 * quarter}"
        )
    return (
        frames[..., :luma].unflatten(-1, (height, width)),
        frames[..., luma:].unflatten(-1, (2, height // 2, width // 2)),
    )


def i420_to_rgb(
    frames: Tensor,
    height: int,
    width: int,
    color_matrix: str,
    color_range: str,
    chroma: str = "nearest",
) -> Tensor:
    """Convert whole frames to RGB, for display and comparisons (training crops first: see cut.py).

    Args:
        frames: uint8 [..., H·W·3/2].
        height: H, even.
        width: W, even.
        color_matrix: of `COLOR_MATRICES`.
        color_range: of `COLOR_RANGES`.
        chroma: "nearest" (as swscale's fast path) or "bilinear" upsampling.

    Returns:
        float32 [..., 3, H, W] in [0, 1].
    """
    y, uv = (planes.float() for planes in i420_planes(frames, height, width))
    flat = uv.reshape(-1, 2, height // 2, width // 2)
    if chroma == "nearest":
        flat = F.interpolate(flat, scale_factor=2, mode="nearest")
    elif chroma == "bilinear":
        flat = F.interpolate(flat, scale_factor=2, mode="bilinear", align_corners=False)
    else:
        raise ValueError(f"chroma = {chroma!r}, must be 'nearest' or 'bilinear'")
    yuv = torch.cat([y.unsqueeze(-3), flat.reshape(*y.shape[:-2], 2, height, width)], dim=-3)
    affine = torch.from_numpy(rgb_from_yuv(color_matrix, color_range)).to(yuv)
    rgb = torch.einsum("cd,...dhw->...chw", affine[:, :3], yuv) + affine[:, 3, None, None]
    return rgb.clamp_(0, 1)


#: Linear sRGB to CIE XYZ over the white of D65 (IEC 61966-2-1; ITU-R BT.709 primaries).
_XYZ_OVER_WHITE: Final = (
    np.array(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    / np.array([0.95047, 1.0, 1.08883])[:, None]
)


def lab_from_rgb(pictures: Tensor) -> Tensor:
    """CIE L, a, b of sRGB pictures, under D65 and for the 2° observer (CIE 15:2004, 8.2.1).

    Args:
        pictures: float [N, 3, ...] in [0, 1].

    Returns:
        The same shape: L from 0 to 100, a and b from about -110 to 100.
    """
    low = pictures <= 0.04045
    linear = torch.where(low, pictures / 12.92, ((pictures.clamp_min(0) + 0.055) / 1.055) ** 2.4)
    to_xyz = torch.from_numpy(_XYZ_OVER_WHITE).to(linear)
    xyz = torch.einsum("cd,nd...->nc...", to_xyz, linear)
    cube_root = xyz.clamp_min(1e-8) ** (1 / 3)
    f = torch.where(xyz > (6 / 29) ** 3, cube_root, xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def rgb_from_lab(pictures: Tensor) -> Tensor:
    """Colours in sRGB of CIE L, a, b: the inverse of `lab_from_rgb`, clipped to [0, 1].

    Args:
        pictures: float [N, 3, ...].

    Returns:
        The same shape.
    """
    lightness, a, b = pictures.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    xyz = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    from_xyz = torch.from_numpy(np.linalg.inv(_XYZ_OVER_WHITE)).to(xyz)
    linear = torch.einsum("cd,nd...->nc...", from_xyz, xyz).clamp(0, 1)
    curved = 1.055 * linear.clamp_min(0.0031308) ** (1 / 2.4) - 0.055
    return torch.where(linear <= 0.0031308, 12.92 * linear, curved)
