"""Batched augmentation of pictures and sound, each a pure function of explicit draws.

Everything done to a picture's colours (YUV → RGB, brightness, contrast, saturation, hue, gray,
normalisation) is composed into one 3×4 matrix per row before a pixel is touched. A probability or
strength of 0 switches a step off; no draw of one step depends on whether another is on.

Source of the defaults: the reference GDT code (github.com/facebookresearch/GDT) for video and
audio, SimCLR (Chen et al. 2020, appendix A) and MoCo v2 for images.

Legend: N rows, T frames, H W luma size, S output size, F mel bins, L spectrogram frames.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.color import JITTERS, compose
from pipelines.crop import CROPS, Floats, Uniform, center_boxes, resample

__all__ = [
    "AudioAugment",
    "ImageAugment",
    "VideoAugment",
    "augment_pictures",
    "gain_of",
    "gaussian_blur",
    "mask_spectrogram",
]

_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class VideoAugment:
    """What is done to the frames of a segment; all of its frames get the same.

    Attributes:
        size: S, pixels of the square that the encoder sees.
        crop: "random" (a square; scales of the short side) or "random_resized" (a box of random
            area and aspect; scales of the area).
        scales: least and greatest, see `crop`.
        aspects: least and greatest width / height of "random_resized".
        center_scale: side of the middle square used in evaluation, share of the short side.
        flip: probability of mirroring left to right.
        jitter: probability of the four steps below (together, in random order).
        brightness, contrast, saturation: factor uniform in [max(0, 1 − x), 1 + x].
        hue: turns of the chroma plane, uniform in [−x, x]; at most 0.5.
        gray: probability of gray.
        blur: probability of a Gaussian blur.
        blur_sigmas: its least and greatest sigma, output pixels.
        mean, std: normalisation of R, G, B in [0, 1].
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    size: int = 112
    crop: str = "random"
    scales: tuple[float, float] = (0.7, 0.875)
    aspects: tuple[float, float] = (3 / 4, 4 / 3)
    center_scale: float = 0.875
    flip: float = 0.5
    jitter: float = 1.0
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_sigmas: tuple[float, float] = (0.1, 2.0)
    mean: tuple[float, float, float] = (0.45, 0.45, 0.45)
    std: tuple[float, float, float] = (0.225, 0.225, 0.225)

    def __post_init__(self) -> None:
        name = type(self).__name__
        if self.size < 8:
            raise ValueError(f"{name}: size = {self.size}, must be at least 8 pixels")
        if self.crop not in CROPS:
            raise ValueError(f"{name}: crop = {self.crop!r}, must be one of {', '.join(CROPS)}")
        for key in ("flip", "jitter", "gray", "blur"):
            _check_range(name, key, getattr(self, key), 0, 1)
        for key in ("brightness", "contrast", "saturation"):
            _check_range(name, key, getattr(self, key), 0, 10)
        _check_range(name, "hue", self.hue, 0, 0.5)
        _check_range(name, "center_scale", self.center_scale, 0.05, 1)
        _check_pair(name, "scales", self.scales, 1e-3, 1)
        _check_pair(name, "aspects", self.aspects, 0.1, 10)
        _check_pair(name, "blur_sigmas", self.blur_sigmas, 1e-3, 50)
        if min(self.std) <= 0:
            raise ValueError(f"{name}: std = {self.std}, must be positive")


@dataclass(frozen=True)
class ImageAugment(VideoAugment):
    """The same for single frames, with the defaults of SimCLR and MoCo v2."""

    crop: str = "random_resized"
    scales: tuple[float, float] = (0.2, 1.0)
    jitter: float = 0.8
    hue: float = 0.1
    gray: float = 0.2
    blur: float = 0.5


@dataclass(frozen=True)
class AudioAugment:
    """What is done to the sound of a segment (defaults: the reference recipe's "medium").

    Attributes:
        volume: gain uniform in [1 − x, 1 + x].
        frequency_masks, time_masks: how many bands are masked (SpecAugment, Park et al. 2019).
        frequency_width, time_width: greatest width of a mask, in mel bins and spectrogram frames.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT

    volume: float = 0.1
    frequency_masks: int = 1
    frequency_width: int = 3
    time_masks: int = 1
    time_width: int = 6

    def __post_init__(self) -> None:
        name = type(self).__name__
        _check_range(name, "volume", self.volume, 0, 0.99)
        for key in ("frequency_masks", "time_masks"):
            _check_range(name, key, getattr(self, key), 0, 100)
        for key in ("frequency_width", "time_width"):
            _check_range(name, key, getattr(self, key), 0, 10_000)


def _check_range(name: str, key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: {key} = {value}, must lie in [{low}, {high}]")


def _check_pair(name: str, key: str, pair: tuple[float, float], low: float, high: float) -> None:
    if not low <= pair[0] <= pair[1] <= high:
        raise ValueError(
            f"{name}: {key} = {list(pair)}, must be least and greatest, both in [{low}, {high}]"
        )


def augment_pictures(
    frames: Tensor,
    height: int,
    width: int,
    rgb: NDArray[np.float64],
    options: VideoAugment,
    draw: Uniform | None,
    out: Tensor,
) -> None:
    """Crop, resize, flip, jitter, blur and normalise; only crop, resize, normalise without draws.

    Args:
        frames: uint8 [N, T, H·W·3/2], I420, or [N, T, H, W, 3], packed.
        height: H.
        width: W.
        rgb: the affine map from what frames hold to R, G, B, float64 [3, 4]
            (color.rgb_from_pixels).
        options: how much of each.
        draw: uniform numbers [N] by name; None for evaluation.
        out: float32 [N, 3, T, S, S], each row contiguous; receives normalised R, G, B.
    """
    num_rows = len(frames)
    if draw is None:
        boxes = center_boxes(num_rows, height, width, options.center_scale)
        flip = np.zeros(num_rows, dtype=bool)
    else:
        boxes = CROPS[options.crop](draw, height, width, options.scales, options.aspects)
        flip = draw("flip") < options.flip
    yuv = resample(frames, height, width, boxes, flip, options.size)
    if draw is not None and options.blur > 0:
        least, greatest = options.blur_sigmas
        sigmas = least + draw("blur_sigma") * (greatest - least)
        yuv = gaussian_blur(yuv, np.where(draw("blur") < options.blur, sigmas, 0), greatest)
    affine = np.tile(rgb, (num_rows, 1, 1))
    if draw is not None:
        mean_yuv = yuv.mean(dim=(2, 3, 4)).double().cpu().numpy()  # [N, 4]
        affine = jittered(affine, mean_yuv, options, draw)
    _apply_colors(yuv, affine, options, out)


def jittered(
    affine: NDArray[np.float64], mean_yuv: Floats, options: VideoAugment, draw: Uniform
) -> NDArray[np.float64]:
    """Compose the jitters in each row's own random order (as torchvision's ColorJitter).

    Args:
        affine: float64 [N, 3, 4], colours in [0, 1] from Y, U, V, 1; changed in place.
        mean_yuv: float64 [N, 4], the mean of Y, U, V, 1 over a row, which contrast blends with. The
            result is affine in it.
        options: how much of each.
        draw: uniform numbers [N] by name.

    Returns:
        float64 [N, 3, 4].
    """
    ranks = draw("jitter_order", len(JITTERS))  # [N, 4]
    order = ranks.argsort(axis=1)
    on = draw("jitter") < options.jitter
    factors = {}
    for name in JITTERS:
        strength, spread = getattr(options, name), 2 * draw(name) - 1
        neutral = 0.0 if name == "hue" else 1.0
        factors[name] = np.where(on, np.maximum(neutral + strength * spread, neutral - 1), neutral)
    gray = np.where(draw("gray") < options.gray, 0.0, 1.0)
    for place in range(len(JITTERS)):
        for number, (name, jitter) in enumerate(JITTERS.items()):
            rows = order[:, place] == number
            if getattr(options, name) > 0 and rows.any():
                mean = _mean_color(affine[rows], mean_yuv[rows])
                affine[rows] = compose(jitter(factors[name][rows], mean), affine[rows])
    return compose(JITTERS["saturation"](gray, mean_yuv), affine)


def _mean_color(affine: NDArray[np.float64], mean_yuv: Floats) -> Floats:
    return np.asarray((affine @ mean_yuv[:, :, None])[:, :, 0])


def _apply_colors(
    yuv: Tensor, affine: NDArray[np.float64], options: VideoAugment, out: Tensor
) -> None:
    """Per row A·(Y, U, V, 1), normalised, clipped to what [0, 1] becomes: a product and a clamp."""
    mean, std = np.array(options.mean), np.array(options.std)
    scaled = (affine - np.column_stack([np.zeros((3, 3)), mean])) / std[:, None]
    rgb = out.flatten(2)
    torch.bmm(torch.from_numpy(scaled).to(yuv.device, yuv.dtype), yuv.flatten(2), out=rgb)
    for channel, (m, s) in enumerate(zip(options.mean, options.std, strict=True)):
        rgb[:, channel].clamp_(-m / s, (1 - m) / s)


def gaussian_blur(pictures: Tensor, sigmas: Floats, greatest: float) -> Tensor:
    """Blur each row with its own sigma (0: as it is), the border mirrored.

    Args:
        pictures: float [N, C, T, S, S].
        sigmas: float64 [N], in pixels.
        greatest: that a sigma may be; all kernels reach to 3 times that, at most half the picture,
            so that no row's blur depends on the rows beside it.

    Returns:
        The same shape.
    """
    radius = min(math.ceil(3 * greatest), pictures.shape[-1] // 2 - 1)
    if radius < 1:
        return pictures
    offsets = np.arange(-radius, radius + 1)
    kernels = np.exp(-0.5 * (offsets / np.maximum(sigmas, 1e-3)[:, None]) ** 2)  # [N, R]
    kernels /= kernels.sum(axis=1, keepdims=True)
    weight = torch.from_numpy(kernels).to(pictures)[:, None]  # [N, 1, R]
    rows = pictures.flatten(1, 2).transpose(0, 1)  # [C·T, N, S, S]: one group of channels a row
    padded = F.pad(rows, (radius,) * 4, mode="reflect")
    across = F.conv2d(padded, weight[:, :, None, :], groups=len(pictures))
    blurred = F.conv2d(across, weight[:, :, :, None], groups=len(pictures))
    return blurred.transpose(0, 1).reshape(pictures.shape)


def gain_of(options: AudioAugment, draw: Uniform) -> Floats:
    """The factor by which each row's waveform is made louder, float64 [N]."""
    return np.asarray(1 + options.volume * (2 * draw("volume") - 1))


def mask_spectrogram(log_mel: Tensor, options: AudioAugment, draw: Uniform) -> Tensor:
    """Set bands of mel bins and of frames to 0, the mean of a normalised spectrogram.

    Args:
        log_mel: float [N, 1, F, L].
        options: how many masks, how wide.
        draw: uniform numbers [N] by name.

    Returns:
        The same shape. Widths are whole and uniform in [0, width], as is the place.
    """
    for axis, name, count, width in (
        (2, "frequency_mask", options.frequency_masks, options.frequency_width),
        (3, "time_mask", options.time_masks, options.time_width),
    ):
        length = log_mel.shape[axis]
        for mask in range(count):
            widths = np.floor(draw(f"{name}_width_{mask}") * (min(width, length) + 1))
            starts = np.floor(draw(f"{name}_start_{mask}") * (length - widths + 1))
            places = np.arange(length)
            masked = (places >= starts[:, None]) & (places < (starts + widths)[:, None])  # [N, len]
            shape = (len(log_mel), 1, -1, 1) if axis == 2 else (len(log_mel), 1, 1, -1)
            mask_of = torch.from_numpy(masked).to(log_mel.device).view(shape)
            log_mel = log_mel.masked_fill(mask_of, 0.0)
    return log_mel
