"""Batched augmentation of pictures and sound, each a pure function of explicit draws.

Everything done to a picture's colours (YUV → RGB, brightness, contrast, saturation, hue, gray,
normalisation) is composed into one small matrix per row before a pixel is touched. A probability or
strength of 0 switches a step off; no draw of one step depends on whether another is on.

Source of the defaults: the reference GDT code (github.com/facebookresearch/GDT) for video and
audio, SimCLR (Chen et al. 2020, appendix A) and MoCo v2 for images.

Legend: N rows, T frames, H W luma size, S output size, F mel bins, L spectrogram frames.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.color import JITTERS, jitterable
from pipelines.device.crop import CROPS, Floats, Uniform, center_boxes
from pipelines.device.cut import Boxes, Cut

__all__ = [
    "AudioAugment",
    "ImageAugment",
    "Recipe",
    "VideoAugment",
    "augment_frames",
    "gain_of",
    "gaussian_blur",
    "mask_spectrogram",
    "recipe_of",
]

_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
#: Of frames, that go through the tensor functions together: on a CPU one row, whose sums stay in
#: its cache and whose box alone is read; on a GPU as much as fills it.
_BYTES_A_PASS = {"cpu": 512 << 10, "cuda": 512 << 20}


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


@dataclass(frozen=True)
class Recipe:
    """What the draws of rows say, in numbers.

    Attributes:
        boxes: float64 [N, 4], what is cut out; a mirrored one starts at its right edge and has a
            negative width.
        color: float64 [N, 3, 4], normalised R, G, B from what frames hold and 1 ...
        by_mean: float64 [N, 3, 3], ... and what a row's mean of that, times this, adds to it.
        sigmas: float64 [N], of the blur.
    """

    boxes: Floats
    color: Floats
    by_mean: Floats
    sigmas: Floats

    def __getitem__(self, rows: slice) -> "Recipe":
        return Recipe(self.boxes[rows], self.color[rows], self.by_mean[rows], self.sigmas[rows])


def recipe_of(
    options: VideoAugment,
    draw: Uniform | None,
    num_rows: int,
    height: int,
    width: int,
    rgb: NDArray[np.float64],
) -> Recipe:
    """Draw what is done to each row; arguments as for `augment_frames`."""
    maps, sigmas = jitterable(rgb, num_rows), np.zeros(num_rows)
    if draw is None:
        boxes = center_boxes(num_rows, height, width, options.center_scale)
    else:
        boxes = CROPS[options.crop](draw, height, width, options.scales, options.aspects)
        flip = draw("flip") < options.flip
        boxes[:, 1] += np.where(flip, boxes[:, 3], 0)
        boxes[:, 3] *= np.where(flip, -1, 1)
        maps = _jittered(maps, options, draw)
        if options.blur > 0:
            least, greatest = options.blur_sigmas
            sigmas = least + draw("blur_sigma") * (greatest - least)
            sigmas[draw("blur") >= options.blur] = 0
    maps[:, :, 3] -= options.mean
    maps /= np.array(options.std)[:, None]
    return Recipe(boxes, maps[:, :, :4], maps[:, :, 4:], sigmas)


def augment_frames(
    frames: Tensor,
    height: int,
    width: int,
    rgb: NDArray[np.float64],
    options: VideoAugment,
    draw: Uniform | None,
    out: Tensor,
    *,
    is_reversed: bool = False,
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
        out: [N, 3, T, S, S] of a floating-point type and any strides; receives normalised R, G, B,
            clipped to what [0, 1] becomes.
        is_reversed: last frame first.
    """
    recipe = recipe_of(options, draw, len(frames), height, width, rgb)
    rows_a_pass = max(1, _BYTES_A_PASS[frames.device.type] // max(1, frames[:1].numel()))
    boxes = Boxes(recipe.boxes, height, width, options.size, is_packed=frames.dim() == 5)
    passes = [slice(i, i + rows_a_pass) for i in range(0, len(frames), rows_a_pass)]
    cuts = [Cut(boxes, rows, frames.shape[1], is_reversed=is_reversed) for rows in passes]
    memory = boxes.memory(min(rows_a_pass, len(frames)), frames)
    for rows, cut in zip(passes, cuts, strict=True):
        columns = cut.columns(frames[rows], memory)
        _mix_rows(cut, columns, recipe[rows], options, out[rows])


def _mix_rows(
    cut: Cut, columns: Tensor, recipe: Recipe, options: VideoAugment, out: Tensor
) -> None:
    color = torch.from_numpy(recipe.color).to(columns)
    if recipe.by_mean.any():
        by_mean = torch.from_numpy(recipe.by_mean).to(columns)
        color[:, :, 3:] += by_mean @ cut.mean(columns)[:, :, None]
    pictures: Iterable[Tensor] = cut.rows(columns, color)
    if len(blurred := np.flatnonzero(recipe.sigmas)):
        together, greatest = torch.stack(list(pictures), dim=1), options.blur_sigmas[1]
        rows = torch.from_numpy(blurred).to(together.device)
        together[rows] = gaussian_blur(together[rows], recipe.sigmas[blurred], greatest)
        pictures = together.unbind(1)
    for channel, picture in enumerate(pictures):  # [N, T, S, S]
        mean, std, into = options.mean[channel], options.std[channel], out[:, channel]
        black, white = -mean / std, (1 - mean) / std
        if into.dtype == picture.dtype:
            torch.clamp(picture, black, white, out=into)
        else:  # clamp takes no `out` of another type
            into.copy_(picture.clamp_(black, white))


def _jittered(maps: Floats, options: VideoAugment, draw: Uniform) -> Floats:
    """Jitter maps [N, 3, 7] of color.jitterable, each in a random order (as ColorJitter)."""
    order = draw("jitter_order", len(JITTERS)).argsort(axis=1)  # [N, 4]
    on = draw("jitter") < options.jitter
    factors = {}
    for name in JITTERS:
        strength, spread = getattr(options, name), 2 * draw(name) - 1
        neutral = 0.0 if name == "hue" else 1.0
        factors[name] = np.where(on, np.maximum(neutral + strength * spread, neutral - 1), neutral)
    for place in range(len(JITTERS)):
        for number, (name, jitter) in enumerate(JITTERS.items()):
            rows = order[:, place] == number
            if getattr(options, name) > 0 and rows.any():
                maps[rows] = jitter(factors[name][rows], maps[rows])
    return JITTERS["saturation"](np.where(draw("gray") < options.gray, 0.0, 1.0), maps)


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
