"""Raw batch to training batch, on whatever device its pixels are: augment, log-mel, codes.

    RawBatch: rows of (sample, time shift, speed)
      × time_reversal × crop × augmentation → rows of one modality, each with its own draws
      → Batch of views: values + codes + boxes, one view for each modality and size

Random numbers are hashed on the CPU for all rows at once and reach the device as a handful of small
matrices; so a CPU and a GPU make the same crop, and so does a resumed run.

Reversed means played backwards: frames last to first, and the spectrogram mirrored in time, as the
reference GDT code does it (reversing the waveform would also turn every attack inside a window).
Augmentation is drawn anew for each row, reversed or not (as in the reference code for video).
Where the plan has the factor `crop`, the box is drawn by its code, and mirroring, colours and all
else by the augmentation's: crops of one augmentation share their colours, and one crop in several
augmentations its box. A crop leaves sound and text as they are.

A recipe with a grid gives N rows of P patches each, which share the crop they are cut from.

Legend: R raw rows, N = R · reversals · crops · augmentations rows of a modality, M factors,
C channels of a picture.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from subprocess import SubprocessError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gdt.batch import Batch, View
from gdt.plan import Plan
from pipelines.color import rgb_from_pixels
from pipelines.device.augment import (
    PATCH_PLACE,
    augment_frames,
    brought_to_rms,
    gain_of,
    mask_spectrogram,
)
from pipelines.device.crop import Floats, Uniform
from pipelines.device.even_crops import even_crop
from pipelines.device.log_mel import LogMelSpectrogram
from pipelines.device.options import AudioAugment, ImageAugment, LogMel, Text, VideoAugment
from pipelines.device.picture_options import CHANNELS
from pipelines.device.tokens import Tokens
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.recycle import Recycler
from pipelines.sampling.draws import uniform

__all__ = ["DeviceOptions", "DeviceTransform"]

_KEYS_NAMED = 64  # in a message
_VISUAL = ("video", "image")
_CROP = "crop_"  # how the names of a box's draws begin, in crop.py
_UPPER = 2**32  # of a word: codes there leave the draws of plans without them as they ever were


@dataclass(frozen=True)
class DeviceOptions:
    """Tables of a config: [video_augment], [audio_augment], [image_augment], [log_mel], [text]."""

    video_augment: VideoAugment = field(default_factory=VideoAugment)
    audio_augment: AudioAugment = field(default_factory=AudioAugment)
    image_augment: ImageAugment = field(default_factory=ImageAugment)
    log_mel: LogMel = field(default_factory=LogMel)
    text: Text = field(default_factory=Text)


@dataclass(frozen=True)
class _Version:
    """One (time_reversal, crop, augmentation) of every raw row, and its random numbers.

    `crop` is None where the plan leaves the box to the augmentation.
    """

    seed: int
    epoch: NDArray[np.int64]  # [R]
    sample: NDArray[np.int64]
    shift: NDArray[np.int64]
    speed: NDArray[np.int64]
    reversal: int
    crop: int | None
    augmentation: int

    def draw(self, modality: str) -> Uniform:
        """Uniform numbers by name: float64 [R], or [R, count] of a name with a count."""

        @cache
        def uniforms(name: str, count: int = 0) -> NDArray[np.float64]:
            counters = np.arange(max(1, count))
            segment = (self.shift + _UPPER * self.speed)[:, None]
            by_crop = self.crop if name.startswith(_CROP) else None
            version = self.augmentation if by_crop is None else by_crop
            codes = (segment, self.reversal, version, counters)
            stream = f"{modality}.{name}"
            rows = self.epoch[:, None], self.sample[:, None]
            table = uniform(self.seed, *rows, stream, *codes)
            return table if count else table[:, 0]

        return uniforms


class DeviceTransform:
    """Turns raw batches into batches of a plan.

    Args:
        plan: which modalities, reversals, crops and augmentations there are.
        options: how to augment, and the spectrogram.
        seed: of the run.
        training: False takes the middle crop and leaves out every random step; reversal,
            crop and augmentation then have the single code 0.
        test_crops: in evaluation, so many crops along the longer side, one row for each; see
            even_crops.py.
        dtype: of pictures; what an encoder under autocast would round them to first of all.
        channels_last: leave the channels of a pixel side by side in memory, as convolutions on
            tensor cores want them; shapes are the same.
    """

    def __init__(
        self,
        plan: Plan,
        options: DeviceOptions,
        seed: int = 0,
        *,
        training: bool = True,
        test_crops: int = 1,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        self.plan, self.options, self.seed, self.training = plan, options, seed, training
        self.dtype, self.channels_last = dtype, channels_last
        self.num_reversals = plan.draws("time_reversal") if training else 1
        has_crops = training and plan.factor("crop") is not None
        self.crops = range(plan.draws("crop")) if has_crops else (None,)
        if not training and test_crops > 1:
            self.crops = range(test_crops)
        self.num_augmentations = plan.draws("augmentation") if training else 1
        self.log_mel = LogMelSpectrogram(options.log_mel)
        self.tokens = Tokens(options.text) if "text" in plan.modalities else None
        self._memory = Recycler(limit=2 * self._groups_of_versions())

    def _groups_of_versions(self) -> int:
        """Tensors of a batch: one for each modality and shape. What views refuse, this refuses."""
        visual = [name for name in self.plan.modalities if name in _VISUAL]
        shapes = [len({_shape(recipe) for recipe in self._recipes(name)}) for name in visual]
        return len(self.plan.modalities) - len(visual) + sum(shapes)

    @torch.no_grad()
    def __call__(self, raw: RawBatch) -> Batch:
        """One batch, its values on the device of `raw`.

        Raises:
            ValueError: the raw batch lacks what a modality of the plan needs, or its sample rate
                is not the spectrogram's.
            Exception: whatever a step raised, with the batch's samples named in a note.
        """
        try:
            return self._batch(raw)
        except Exception as error:
            keys = list(dict.fromkeys(raw.keys))
            more = f" and {len(keys) - _KEYS_NAMED} more" if len(keys) > _KEYS_NAMED else ""
            error.add_note(
                f"This happened in epoch {raw.epoch} step {raw.step}, to one of the samples "
                f"{', '.join(map(repr, keys[:_KEYS_NAMED]))}{more}."
            )
            raise

    def _batch(self, raw: RawBatch) -> Batch:
        epoch = np.full(len(raw), raw.epoch) if raw.data_epoch is None else raw.data_epoch.numpy()
        speed = torch.zeros_like(raw.shift) if raw.speed is None else raw.speed
        rows = (self.seed, epoch, raw.sample.numpy(), raw.shift.numpy(), speed.numpy())
        versions = [
            _Version(*rows, reversal, crop, augmentation)
            for reversal in range(self.num_reversals)
            for crop in self.crops
            for augmentation in range(self.num_augmentations)
        ]
        views: list[View] = []
        for code, name in enumerate(self.plan.modalities):
            if name not in _VISUAL:
                make = self._audio if name == "audio" else self._text
                views.append(self._view(raw, versions, code, name, make(raw, versions)))
                continue
            for group in self._groups(name, versions):
                values, boxes = self._frames(raw, group, name)
                views.append(self._view(raw, group, code, name, values, boxes))
        return Batch(tuple(views), raw.epoch, raw.step)

    def _view(
        self,
        raw: RawBatch,
        versions: list[_Version],
        modality: int,
        name: str,
        values: Tensor,
        boxes: Tensor | None = None,
    ) -> View:
        codes = self._codes(raw, versions, modality).to(values.device, non_blocking=True)
        return View(name, values, codes, boxes)

    def _recipes(self, name: str) -> tuple[VideoAugment, ...]:
        """The recipe of each augmentation draw of a visual modality; in evaluation the base one."""
        options = self.options.image_augment if name == "image" else self.options.video_augment
        if self.training:
            return options.recipes(self.num_augmentations)
        return (replace(options, grid=1),)

    def _groups(self, name: str, versions: list[_Version]) -> list[list[_Version]]:
        """The versions whose pictures have one shape, by shapes in the order of their draws."""
        recipes = self._recipes(name)
        by_shape: dict[tuple[int, ...], list[_Version]] = {}
        for version in versions:
            by_shape.setdefault(_shape(recipes[version.augmentation]), []).append(version)
        return list(by_shape.values())

    def _codes(self, raw: RawBatch, versions: list[_Version], modality: int) -> Tensor:
        columns = {
            "sample": raw.sample[:, None],
            "time_shift": raw.shift[:, None],
            "speed": torch.tensor([[0]]) if raw.speed is None else raw.speed[:, None],
            "modality": torch.tensor([modality]),
            "time_reversal": torch.tensor([version.reversal for version in versions]),
            "crop": torch.tensor([version.crop or 0 for version in versions]),
            "augmentation": torch.tensor([version.augmentation for version in versions]),
        }
        shape = (len(raw), len(versions))
        return torch.stack([columns[name].expand(shape) for name in self.plan.names], -1).flatten(
            0, 1
        )

    def _frames(self, raw: RawBatch, versions: list[_Version], name: str) -> tuple[Tensor, Tensor]:
        """Pictures of versions of one shape, and their boxes.

        Returns:
            Video [N, C, T, S, S] or images [N, C, S, S], of a grid [N, P, C, …]; and [N, 4], of a
            grid [N, P, 4], where each frame has its own [N, (P,) T, 4].
        """
        if raw.frames is None:
            raise ValueError(f"the plan has the modality {name!r}, but the batch has no frames")
        is_image = name == "image"
        if is_image and raw.frames.shape[1] != 1:
            raise ValueError(
                f"images are single frames, got {raw.frames.shape[1]}: set segment.num_frames = 1"
            )
        recipes = self._recipes(name)
        channels, size, count = _shape(recipes[versions[0].augmentation])
        out = self._empty(raw.frames, len(versions) * count, channels, size)
        boxes: list[Floats] = []
        for number, version in enumerate(versions):
            recipe = recipes[version.augmentation]
            draw = version.draw(name) if self.training else None
            if not self.training and version.crop is not None:
                sizes = (len(raw), raw.height, raw.width)
                recipe, draw = even_crop(recipe, version.crop, len(self.crops), *sizes)
            for patch in range(count):
                into = out[:, number * count + patch]
                boxes.append(self._cut(raw, recipe, patch, draw, into, version.reversal == 1))
        frames = out.flatten(0, 1)  # N·P × C × T × S × S
        shares = torch.from_numpy(np.stack(boxes, axis=1).astype(np.float32)).flatten(0, 1)
        shares = shares.to(frames.device, non_blocking=True)
        frames = frames[:, :, 0] if is_image else frames
        if count == 1:
            return frames, shares
        return frames.unflatten(0, (-1, count)), shares.unflatten(0, (-1, count))

    def _cut(
        self,
        raw: RawBatch,
        recipe: VideoAugment,
        patch: int,
        draw: Uniform | None,
        out: Tensor,
        is_reversed: bool,
    ) -> Floats:
        """Write one picture of each raw row into `out` [R, C, T, S, S].

        Returns:
            The boxes in shares of the frame, [R, 4]; [R, T, 4] where each frame has its own.
        """
        assert raw.frames is not None
        size = (raw.height, raw.width)
        rgb = rgb_from_pixels(raw.pixels, raw.color_matrix, raw.color_range)
        augment = _augmenter(raw.frames.device, recipe, self.training)
        which: dict[str, Any] = {"patch": patch} if recipe.grid > 1 else {}
        moves = recipe.frame_crops or (recipe.grid > 1 and recipe.patch_frames)
        if draw is None or not moves:
            which["is_reversed"] = is_reversed
            boxes = augment(raw.frames, *size, rgb, recipe, draw, out, **which)
        else:
            frames = raw.frames.flip(1) if is_reversed else raw.frames
            each = zip(frames.split(1, dim=1), out.split(1, dim=2), strict=True)
            boxes = np.stack(
                [
                    augment(one, *size, rgb, recipe, _of_frame(draw, t, recipe), into, **which)
                    for t, (one, into) in enumerate(each)
                ],
                axis=1,
            )
        return boxes / [*size, *size]

    def _empty(self, frames: Tensor, num_versions: int, channels: int, size: int) -> Tensor:
        """Unwritten pictures [R, versions, C, T, S, S] beside `frames` [R, T, …]."""
        num_rows, num_frames = frames.shape[:2]
        shape = (num_rows, num_versions, channels, num_frames, size, size)
        if self.channels_last:
            shape = (num_rows, num_versions, num_frames, size, size, channels)
        if frames.device.type == "cpu" and self.dtype == torch.float32:
            out = torch.from_numpy(self._memory.empty(shape, np.float32))
        else:
            out = torch.empty(shape, dtype=self.dtype, device=frames.device)
        return out.movedim(-1, 2) if self.channels_last else out

    def _text(self, raw: RawBatch, versions: list[_Version]) -> Tensor:
        """Token numbers int64 [N, S]; of captions in order, augmentation k has the k-th."""
        if raw.captions is None or self.tokens is None:
            raise ValueError("the plan has the modality 'text', but the batch has no captions")
        tokens = self.tokens([text for captions in raw.captions for text in captions])
        rows, first = [], 0
        for captions in raw.captions:
            rows += [first + (v.augmentation if len(captions) > 1 else 0) for v in versions]
            first += len(captions)
        return tokens[rows].to(raw.device, non_blocking=True)

    def _audio(self, raw: RawBatch, versions: list[_Version]) -> Tensor:
        """Log-mel float32 [N, 1, F, L], or waveforms [N, 1, S]."""
        if raw.audio is None:
            raise ValueError("the plan has the modality 'audio', but the batch has no audio")
        options = self.options.audio_augment
        is_waveform = options.values == "waveform"
        sound = raw.audio if is_waveform else self._mel_power(raw, raw.audio)  # once for all rows
        if options.rms is not None:
            sound = brought_to_rms(sound, options.rms)
        rows = []
        for version in versions:
            values = sound
            if self.training:
                gain = torch.from_numpy(gain_of(options, version.draw("audio")))
                factor = (gain if is_waveform else gain.square()).to(sound)
                values = sound * factor.view(-1, *(1 for _ in sound.shape[1:]))
            values = (values if is_waveform else self.log_mel.log(values))[:, None]
            if version.reversal:
                values = values.flip(-1)
            if self.training and not is_waveform:
                values = mask_spectrogram(values, options, version.draw("audio"))
            rows.append(values)
        return torch.stack(rows, dim=1).flatten(0, 1)

    def _mel_power(self, raw: RawBatch, audio: Tensor) -> Tensor:
        """Mel power [R, F, L]."""
        if raw.sample_rate_hz != self.options.log_mel.sample_rate_hz:
            raise ValueError(
                f"the batch's audio has {raw.sample_rate_hz} Hz and log_mel.sample_rate_hz is "
                f"{self.options.log_mel.sample_rate_hz}: set both alike"
            )
        self.log_mel.to(audio.device)
        return self.log_mel.power(audio)


def _shape(recipe: VideoAugment) -> tuple[int, int, int]:
    """Channels, side and number of the pictures that a row has; views differ in it."""
    return CHANNELS[recipe.channels], recipe.size, recipe.num_patches


def _of_frame(draw: Uniform, frame: int, recipe: VideoAugment) -> Uniform:
    """Draws of which those of crops, or of patches' places, are a frame's own."""

    def of_frame(name: str, count: int = 0) -> Floats:
        is_patch = name.startswith(PATCH_PLACE)
        moves = recipe.patch_frames if is_patch else recipe.frame_crops and name.startswith(_CROP)
        return draw(f"{name}.{frame}" if moves else name, count)

    return of_frame


def _augmenter(
    device: torch.device, options: VideoAugment, training: bool
) -> Callable[..., Floats]:
    """On a GPU the fused kernel, unless there is more to do than it does; else augment.py."""
    more = training and (
        options.blur_probability > 0
        or options.solarize_probability > 0
        or options.stepwise_colors
        or options.rand_augment > 0
    )
    if device.type == "cuda" and options.channels == "rgb" and not more:
        return _fused_kernel() or augment_frames
    return augment_frames


@cache
def _fused_kernel() -> Callable[..., Floats] | None:
    """None, and a warning, where Triton lacks what it starts kernels with: a C compiler, say."""
    try:
        driver: Any = import_module("triton.runtime").driver
        driver.active.utils  # noqa: B018 - compiled when it is first asked for
        from pipelines.device.fused_clip import fused_clip
    except (ImportError, RuntimeError, OSError, AssertionError, SubprocessError) as error:
        cause = str(error).strip().splitlines() or [type(error).__name__]
        warnings.warn(
            f"pictures are augmented by torch's functions and not by the fused kernel, since "
            f"Triton does not run here ({cause[0]}); it needs a C compiler and Python's headers "
            "(Debian: gcc, python3-dev)",
            stacklevel=2,
        )
        return None
    return fused_clip
