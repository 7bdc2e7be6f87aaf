"""What the cells of frames are compared by: an encoder's maps, or nothing but colour.

Legend: H W pixels of a frame, C channels of a map of h × w cells.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from models import EncoderOptions, Method
from models.encoders.frames import FrameEncoder
from pipelines.color import lab_from_rgb
from pipelines.device.channels import encoder_channels
from tools.evaluation.errors import EvaluationError
from tools.propagation.recipe import Recipe
from tools.runs.run import Run

#: A frame, float32 [3, H, W] in [0, 1] → features of its cells [C, h, w].
FrameFeatures = Callable[[Tensor], Tensor]

_PICTURES: Final = ("video", "image")
#: Least and greatest L, a and b that colours are told apart between.
_LAB_RANGE: Final = ((0.0, 100.0), (-110.0, 110.0), (-110.0, 110.0))


def scaled(frame: npt.NDArray[np.uint8], recipe: Recipe) -> Tensor:
    """Return a frame [H, W, 3] at the recipe's size, float32 [3, H', W'] in [0, 1]."""
    picture = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    if recipe.short_side is None:
        return picture
    height, width = picture.shape[1:]
    scale = recipe.short_side / min(height, width)
    longer = int(max(height, width) * scale) // recipe.multiple * recipe.multiple
    size = (recipe.short_side, longer) if height <= width else (longer, recipe.short_side)
    return F.interpolate(picture[None], size=size, mode="bilinear", antialias=True)[0].clamp(0, 1)


def picture_modality(run: Run, asked: str | None) -> str:
    """Return the modality whose encoder is asked: the run's first of pictures by default.

    Raises:
        EvaluationError: the run has no such encoder, or one that mixes the frames of a clip.
    """
    found = [name for name in run.plan.modalities if name in _PICTURES]
    if not found or (asked is not None and asked not in found):
        raise EvaluationError(
            f"{run.path} has no encoder of {asked or 'pictures'}: its plan has the modalities "
            f"{', '.join(run.plan.modalities)}, and labels are propagated in video or image"
        )
    name = asked or found[0]
    if name == "video" and not isinstance(run.method.towers.encoder(name), FrameEncoder):
        raise EvaluationError(
            f'encoders.video = "{run.config.encoders.video}" mixes the frames of a clip, and '
            "propagation compares one with the other: train an image encoder (encoders.video = "
            '"resnet18", say), or give --modality image where the run has one'
        )
    return name


def encoder_features(
    run: Run,
    method: Method,
    modality: str,
    device: torch.device,
    *,
    num_stages: int | None = None,
    map_stride: int | None = None,
) -> FrameFeatures:
    """Return what a method's encoder makes of frames.

    Args:
        run: whose config says how frames are normalised.
        method: with its weights; its encoder is replaced where other maps are asked for.
        modality: see `picture_modality`.
        device: where it runs.
        num_stages: of a ResNet, those that are kept; as trained where None.
        map_stride: of a ResNet, pixels of a cell; as trained where None.

    Raises:
        EvaluationError: the encoder cannot have such maps.
    """
    augment = run.config.video_augment if modality == "video" else run.config.image_augment
    if num_stages is not None or map_stride is not None:
        _with_other_maps(method, modality, run.config.encoders, num_stages, map_stride)
    method.to(device).eval()

    @torch.inference_mode()
    def features(frame: Tensor) -> Tensor:
        clip = encoder_channels(frame.to(device)[None, :, None], augment)  # 1 × C × 1 × H × W
        if modality == "video":
            return method.maps(modality, clip)[0, :, 0]
        return method.maps(modality, clip[:, :, 0])[0]

    return features


def color_features(height: int, width: int) -> FrameFeatures:
    """Return the mean colours of h × w cells: what matches when nothing is learned.

    Each of L, a and b is an angle of half a turn: cosines fall with the distance of colours.
    """
    least, greatest = torch.tensor(_LAB_RANGE).T

    def features(frame: Tensor) -> Tensor:
        lab = F.adaptive_avg_pool2d(lab_from_rgb(frame[None]), (height, width))[0].permute(1, 2, 0)
        angles = math.pi * (lab - least) / (greatest - least)
        return torch.cat([angles.cos(), angles.sin()], dim=2).permute(2, 0, 1)

    return features


def _with_other_maps(
    method: Method,
    modality: str,
    options: EncoderOptions,
    num_stages: int | None,
    map_stride: int | None,
) -> None:
    """Replace a method's encoder by one of the same weights whose maps are others."""
    trained = method.towers.encoder(modality).state_dict()
    try:
        asked = replace(
            options,
            num_stages=num_stages or options.num_stages,
            map_stride=map_stride or options.map_stride,
        )
        encoder = asked.build(modality)
    except ValueError as error:
        raise EvaluationError(f"the encoder cannot have such maps: {error}") from error
    wanted = encoder.state_dict()
    missing = sorted(wanted.keys() - trained.keys())
    if missing:
        raise EvaluationError(
            f"--stages {num_stages}: the run's encoder has no weights {missing[0]}: it was trained "
            f"with {options.num_stages} stages"
        )
    encoder.load_state_dict({name: trained[name] for name in wanted})
    method.towers.encoders[modality] = encoder
