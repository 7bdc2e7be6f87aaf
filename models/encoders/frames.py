"""Frame encoders: an image encoder that sees every frame of a clip by itself.

    clips [B, 3, T, H, W] ─► B·T images ─ image encoder ─► maps [B, C, T, h, w], features [B, D]

Legend: B clips, T frames, C channels of a map of h × w cells, D features.
"""

import functools
from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from models.encoders.encoder import Encoder


class FrameEncoder(Encoder):
    """An image encoder for clips: maps are those of the frames, features the mean of theirs.

    Args:
        image: the encoder of one frame; its weights keep its names.
    """

    trunk: Encoder

    def __init__(self, image: Encoder) -> None:
        batch, channels, *space = image.input_shape
        super().__init__(image, nn.Identity(), image.embedding_dim, (batch, channels, "T", *space))

    def forward(self, values: Tensor) -> Tensor:
        """Encode clips [B, 3, T, H, W] → [B, D]."""
        return self._each_frame(self.trunk.forward, values).mean(1)

    def maps(self, values: Tensor) -> Tensor:
        """Encode clips [B, 3, T, H, W], place by place and frame by frame: [B, C, T, h, w]."""
        return self._each_frame(self.trunk.maps, values).transpose(1, 2)

    def arrange(self, *, channels_last: bool = False, compiled: bool = False) -> None:
        """Choose how the image encoder computes; see `Encoder.arrange`."""
        self.trunk.arrange(channels_last=channels_last, compiled=compiled)

    def _each_frame(self, encode: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """Return what `encode` gives for each frame, [B, T, …]."""
        self.check(values)
        frames = values.transpose(1, 2)  # B × T × 3 × H × W
        return cast(Tensor, encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]))


def by_frame(images: Mapping[str, Callable[..., Encoder]]) -> dict[str, Callable[..., Encoder]]:
    """Return image encoders' constructors, under their names, as those of frame encoders."""
    return {name: _by_frame(make) for name, make in images.items()}


def _by_frame(make: Callable[..., Encoder]) -> Callable[..., Encoder]:
    @functools.wraps(make)  # and so its options
    def make_frame_encoder(**options: object) -> Encoder:
        return FrameEncoder(make(**options))

    return make_frame_encoder
