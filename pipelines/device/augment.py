"""Batched augmentation of pictures and sound, each a pure function of explicit draws.

Everything done to a picture's colours (YUV → RGB, brightness, contrast, saturation, hue, gray,
normalisation) is composed into one small matrix per row before a pixel is touched. A probability or
strength of 0 switches a step off; no draw of one step depends on whether another is on.

Legend: N rows, C channels, T frames, H W luma size, S output size, F mel bins, L spectrogram
frames.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipelines.color import JITTERS, jitterable
from pipelines.device.channels import column, encoder_channels
from pipelines.device.crop import CROPS, Floats, Uniform, center_boxes, patch_boxes
from pipelines.device.cut import Boxes, Cut
from pipelines.device.options import AudioAugment, VideoAugment
from pipelines.device.rand_augment import Operations, draw_operations, operate
from pipelines.device.stepwise import Steps, take_steps

__all__ = [
    "PATCH_PLACE",
    "Recipe",
    "augment_frames",
    "gain_of",
    "gaussian_blur",
    "mask_spectrogram",
    "recipe_of",
]

#: How the names of draws begin that say where in its window a patch lies.
PATCH_PLACE: Final = "crop_patch"
#: Of frames, that go through the tensor functions together: on a CPU one row, whose sums stay in
#: its cache and whose box alone is read; on a GPU as much as fills it.
_BYTES_A_PASS = {"cpu": 512 << 10, "cuda": 512 << 20}
#: Root mean square of a waveform that is as good as silent: a few steps of 16 bits.
_SILENT_RMS: Final = 1e-4


@dataclass(frozen=True)
class Recipe:
    """What the draws of rows say, in numbers.

    Attributes:
        boxes: float64 [N, 4], what is cut out; a mirrored one starts at its right edge and has a
            negative width.
        color: float64 [N, 3, 4], normalised R, G, B from what frames hold and 1 ...
        by_mean: float64 [N, 3, 3], ... and what a row's mean of that, times this, adds to it.
        sigmas: float64 [N], of the blur.
        solarized: bool [N], whether bright values are inverted.
        steps: of the colours, where they are taken one by one; `color` then gives R, G, B as such.
        operations: of RandAugment, where there are any; `color` then gives R, G, B as such.
    """

    boxes: Floats
    color: Floats
    by_mean: Floats
    sigmas: Floats
    solarized: NDArray[np.bool_]
    steps: Steps | None = None
    operations: Operations | None = None

    def __getitem__(self, rows: slice) -> "Recipe":
        parts = [getattr(self, field.name) for field in fields(self)]
        kept: list[Any] = [None if part is None else part[rows] for part in parts]
        return Recipe(*kept)


def recipe_of(
    options: VideoAugment,
    draw: Uniform | None,
    num_rows: int,
    height: int,
    width: int,
    rgb: NDArray[np.float64],
    patch: int | None = None,
) -> Recipe:
    """Draw what is done to each row; arguments as for `augment_frames`."""
    maps, sigmas = jitterable(rgb, num_rows), np.zeros(num_rows)
    solarized, steps, operations = np.zeros(num_rows, dtype=bool), None, None
    if draw is None:
        boxes = center_boxes(num_rows, height, width, options.center_scale)
    else:
        boxes = CROPS[options.crop](draw, height, width, options.scales, options.aspects)
        flip = draw("flip") < options.flip_probability
        boxes[:, 1] += np.where(flip, boxes[:, 3], 0)
        boxes[:, 3] *= np.where(flip, -1, 1)
        if patch is not None:
            of_patch = _prefixed(draw, f"{PATCH_PLACE}{patch}.")
            grid = options.grid, options.window, of_patch
            boxes = patch_boxes(boxes, patch, *grid, options.patch_scales, options.patch_aspects)
            if options.patch_colors:
                draw = _prefixed(draw, f"patch{patch}.")
        drawn = steps_of(options, draw)
        if options.rand_augment > 0:
            late = drawn.gray & (not options.gray_first)
            operations = draw_operations(options, draw, late)
            drawn = replace(drawn, gray=drawn.gray & ~late)
        if options.stepwise_colors:
            steps = drawn
        else:
            maps = _jittered(maps, options, drawn)
        if options.blur_probability > 0:
            least, greatest = options.blur_sigmas
            sigmas = least + draw("blur_sigma") * (greatest - least)
            sigmas[draw("blur") >= options.blur_probability] = 0
        solarized = draw("solarize") < options.solarize_probability
    if options.channels == "rgb" and steps is None and operations is None:
        maps[:, :, 3] -= options.mean  # others are normalised when they are made
        maps /= np.array(options.std)[:, None]
    return Recipe(boxes, maps[:, :, :4], maps[:, :, 4:], sigmas, solarized, steps, operations)


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
    patch: int | None = None,
) -> Floats:
    """Crop, resize, flip, jitter, blur, solarize and normalise; without draws the middle, plain.

    Args:
        frames: uint8 [N, T, H·W·3/2], I420, or [N, T, H, W, 3], packed.
        height: H.
        width: W.
        rgb: the affine map from what frames hold to R, G, B, float64 [3, 4]
            (color.rgb_from_pixels).
        options: how much of each.
        draw: uniform numbers [N] by name; None for evaluation.
        out: [N, C, T, S, S] of a floating-point type and any strides; receives normalised channels,
            R, G and B clipped to what [0, 1] becomes.
        is_reversed: last frame first.
        patch: which of the grid's is cut out; None for the whole crop.

    Returns:
        The boxes that were cut out, float64 [N, 4]; see `Recipe`.
    """
    recipe = recipe_of(options, draw, len(frames), height, width, rgb, patch)
    rows_a_pass = max(1, _BYTES_A_PASS[frames.device.type] // max(1, frames[:1].numel()))
    boxes = Boxes(recipe.boxes, height, width, options.size, is_packed=frames.dim() == 5)
    passes = [slice(i, i + rows_a_pass) for i in range(0, len(frames), rows_a_pass)]
    cuts = [Cut(boxes, rows, frames.shape[1], is_reversed=is_reversed) for rows in passes]
    memory = boxes.memory(min(rows_a_pass, len(frames)), frames)
    for rows, cut in zip(passes, cuts, strict=True):
        columns = cut.columns(frames[rows], memory)
        _mix_rows(cut, columns, recipe[rows], options, out[rows])
    return recipe.boxes


def _prefixed(draw: Uniform, prefix: str) -> Uniform:
    return lambda name, count=0: draw(prefix + name, count)


def _mix_rows(
    cut: Cut, columns: Tensor, recipe: Recipe, options: VideoAugment, out: Tensor
) -> None:
    color = torch.from_numpy(recipe.color).to(columns)
    if recipe.by_mean.any():
        by_mean = torch.from_numpy(recipe.by_mean).to(columns)
        color[:, :, 3:] += by_mean @ cut.mean(columns)[:, :, None]
    pictures: Iterable[Tensor] = cut.rows(columns, color)  # three of [N, T, S, S]
    is_normal = options.channels == "rgb" and recipe.steps is None and recipe.operations is None
    mean, std = (options.mean, options.std) if is_normal else ((0.0,) * 3, (1.0,) * 3)
    if not is_normal or recipe.sigmas.any() or recipe.solarized.any():
        together = torch.stack(list(pictures), dim=1)  # N × 3 × T × S × S
        if recipe.steps is not None:
            take_steps(together.clamp_(0, 1), recipe.steps)
        _change_pixels(together, recipe, options, mean, std)
        if not is_normal:
            out.copy_(encoder_channels(together.clamp_(0, 1), options))
            return
        pictures = together.unbind(1)
    for channel, picture in enumerate(pictures):  # [N, T, S, S]
        black, white = -mean[channel] / std[channel], (1 - mean[channel]) / std[channel]
        into = out[:, channel]
        if into.dtype == picture.dtype:
            torch.clamp(picture, black, white, out=into)
        else:  # clamp takes no `out` of another type
            into.copy_(picture.clamp_(black, white))


def _change_pixels(
    pictures: Tensor,
    recipe: Recipe,
    options: VideoAugment,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    """Blur, operate and solarize rows of pictures [N, 3, T, S, S] in place, as the recipe says."""
    if len(blurred := np.flatnonzero(recipe.sigmas)):
        rows, greatest = torch.from_numpy(blurred).to(pictures.device), options.blur_sigmas[1]
        pictures[rows] = gaussian_blur(pictures[rows], recipe.sigmas[blurred], greatest)
    if recipe.operations is not None:
        fill = options.mean if options.channels != "lab" else (0.5, 0.5, 0.5)
        operate(pictures.clamp_(0, 1), recipe.operations, fill)
    if len(solarized := np.flatnonzero(recipe.solarized)):
        rows = torch.from_numpy(solarized).to(pictures.device)
        black, white, threshold = (
            (value - column(mean, pictures)) / column(std, pictures)
            for value in (0.0, 1.0, options.solarize_threshold)
        )
        plain = torch.minimum(torch.maximum(pictures[rows], black), white)
        pictures[rows] = torch.where(plain >= threshold, black + white - plain, plain)


def steps_of(options: VideoAugment, draw: Uniform) -> Steps:
    """Draw the order of the steps and their factors, as ColorJitter does."""
    order = draw("jitter_order", len(JITTERS)).argsort(axis=1)  # [N, 4]
    on = draw("jitter") < options.jitter_probability
    factors = []
    for name in JITTERS:
        strength, spread = getattr(options, name), 2 * draw(name) - 1
        neutral = 0.0 if name == "hue" else 1.0
        factors.append(np.where(on, np.maximum(neutral + strength * spread, neutral - 1), neutral))
    gray = draw("gray") < options.gray_probability
    return Steps(order, np.stack(factors, axis=1), gray, options.gray_first)


def _jittered(maps: Floats, options: VideoAugment, steps: Steps) -> Floats:
    """Jitter maps [N, 3, 7] of color.jitterable, each in its own order."""
    for place in range(len(JITTERS)):
        for number, (name, jitter) in enumerate(JITTERS.items()):
            rows = steps.order[:, place] == number
            if getattr(options, name) > 0 and rows.any():
                maps[rows] = jitter(steps.factors[rows, number], maps[rows])
    return JITTERS["saturation"](np.where(steps.gray, 0.0, 1.0), maps)


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


def brought_to_rms(waveforms: Tensor, rms: float) -> Tensor:
    """Scale each waveform [R, S] to one root mean square; silence stays silence."""
    own = waveforms.square().mean(dim=-1, keepdim=True).sqrt()
    return waveforms * (rms / own.clamp_min(_SILENT_RMS))


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
