"""Encoders of other channels than three, and several side by side: L, and a with b, of Lab."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.encoders.encoder import Encoder


class _SideBySide(nn.Module):
    def __init__(self, encoders: Sequence[Encoder], groups: Sequence[int]) -> None:
        super().__init__()
        self.encoders, self.groups = nn.ModuleList(encoders), list(groups)

    def forward(self, values: Tensor) -> Tensor:
        parts = values.split(self.groups, dim=1)
        encoders = cast(Sequence[Encoder], self.encoders)
        maps = [encoder.maps(part) for encoder, part in zip(encoders, parts, strict=True)]
        return torch.cat(maps, dim=1)


class GroupedEncoder(Encoder):
    """Encoders that share no weight; their maps, and so their features, lie behind one another.

    Tian et al., "Contrastive Multiview Coding", 2019, arXiv:1906.05849, §3.

    Args:
        make: returns a new encoder.
        groups: how many channels each sees, in order.
    """

    def __init__(self, make: Callable[[], Encoder], groups: Sequence[int]) -> None:
        encoders = [make() for _ in groups]
        for encoder, channels in zip(encoders, groups, strict=True):
            take_channels(encoder, channels)
        shape = (encoders[0].input_shape[0], sum(groups), *encoders[0].input_shape[2:])
        features = sum(encoder.embedding_dim for encoder in encoders)
        super().__init__(_SideBySide(encoders, groups), encoders[0].pool, features, shape)


def take_channels(encoder: Encoder, channels: int) -> None:
    """Replace the first convolution by one of so many channels, drawn anew.

    Raises:
        ValueError: the encoder does not begin with a convolution, or is no mean over its map.
    """
    found = [(name, m) for name, m in encoder.trunk.named_modules() if isinstance(m, nn.Conv2d)]
    name, old = found[0] if found else ("", None)
    pools_maps = isinstance(encoder.pool, nn.AdaptiveAvgPool2d)
    if old is None or old.in_channels != encoder.input_shape[1] or not pools_maps:
        raise ValueError(
            "encoders.channel_groups and encoders.image_channels are for image encoders that begin "
            "with a convolution of the picture and end with the mean of a map: resnet18, resnet50, "
            "resnet_small"
        )
    parent, _, child = name.rpartition(".")
    new = nn.Conv2d(
        channels,
        old.out_channels,
        cast(tuple[int, int], old.kernel_size),
        cast(tuple[int, int], old.stride),
        cast(tuple[int, int], old.padding),
        bias=old.bias is not None,
        padding_mode=old.padding_mode,
    )
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    setattr(encoder.trunk.get_submodule(parent), child, new)
    encoder.input_shape = (encoder.input_shape[0], channels, *encoder.input_shape[2:])
