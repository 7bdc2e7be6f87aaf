"""What every encoder is: a network that turns each row of a batch into one vector, or a map.

    values ─ trunk ─► maps [B, C, (T,) H, W] ─ pool ─► features [B, D]

Legend: B rows, C channels, T frames, H height, W width, F mel bins, L time bins, D features.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import torch
from torch import Tensor, nn

#: Dimensions of a convolution's weight → its layout.
_CHANNELS_LAST: Final = {4: torch.channels_last, 5: torch.channels_last_3d}


class Encoder(nn.Module):
    """A network and the length of the vector it gives for each row.

    Args:
        trunk: maps values to feature maps [B, C, …].
        pool: maps those to [B, embedding_dim], or to that with trailing dimensions of size 1.
        embedding_dim: length of the vector.
        input_shape: the shape that the network takes, for messages: ("B", 3, "T", "H", "W").
            An int is a size that the input must have, a string a size that may be anything.
    """

    def __init__(
        self,
        trunk: nn.Module,
        pool: nn.Module,
        embedding_dim: int,
        input_shape: tuple[int | str, ...],
    ) -> None:
        super().__init__()
        self.trunk, self.pool = trunk, pool
        self.embedding_dim = embedding_dim
        self.input_shape = input_shape

    def forward(self, values: Tensor) -> Tensor:
        """Encode a batch: `input_shape` → [B, embedding_dim].

        Raises:
            ValueError: the batch does not have the shape that this encoder takes.
        """
        return cast(Tensor, self.pool(self.maps(values)).flatten(1))

    def maps(self, values: Tensor) -> Tensor:
        """Encode a batch, place by place: `input_shape` → [B, C, (T,) H, W].

        Raises:
            ValueError: the batch does not have the shape that this encoder takes.
        """
        self.check(values)
        return cast(Tensor, self.trunk(values))

    def stages(self, values: Tensor) -> list[Tensor]:
        """Encode a batch; what each residual stage gives, the first one first: [B, C, …] each.

        Raises:
            ValueError: the batch does not have the shape that this encoder takes, or the encoder
                is no ResNet.
        """
        self.check(values)
        stem, stages = self._residual_stages()
        for layer in stem:
            values = layer(values)
        found = []
        for stage in stages:
            values = stage(values)
            found.append(values)
        return found

    def stage_channels(self) -> list[int]:
        """Return the channels of each residual stage.

        Raises:
            ValueError: the encoder is no ResNet.
        """
        norms = [
            [m for m in stage.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            for stage in self._residual_stages()[1]
        ]
        return [of_stage[-1].num_features for of_stage in norms]

    def _residual_stages(self) -> tuple[list[nn.Module], list[nn.Module]]:
        """Return the layers before the first residual stage, and the stages."""
        layers = list(self.trunk) if isinstance(self.trunk, nn.Sequential) else []
        is_stage = [any(hasattr(m, "downsample") for m in layer.modules()) for layer in layers]
        if not any(is_stage) or not all(is_stage[is_stage.index(True) :]):
            raise ValueError(
                "the stages of an encoder are asked for, and this one has none: take a ResNet, "
                'as encoders.image = "resnet18"'
            )
        first = is_stage.index(True)
        return layers[:first], layers[first:]

    def check(self, values: Tensor) -> None:
        """Raise ValueError for a batch that does not have the shape that this encoder takes."""
        fits = values.ndim == len(self.input_shape) and all(
            isinstance(wanted, str) or wanted == got
            for wanted, got in zip(self.input_shape, values.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(str(size) for size in self.input_shape)
            raise ValueError(
                f"the encoder takes a tensor of shape [{wanted}], got {list(values.shape)}; "
                "look at the [segment] and augment tables of the config, which set this shape"
            )

    def arrange(self, *, channels_last: bool = False, compiled: bool = False) -> None:
        """Choose how the network computes; what it computes, and its state, stay as they are.

        Args:
            channels_last: keep the weights of convolutions with their channels last in memory.
            compiled: compile the network at its first batch.
        """
        if channels_last:
            for module in self.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    module.to(memory_format=_CHANNELS_LAST[module.weight.ndim])  # type: ignore[call-overload]
        if compiled:
            self.trunk.compile()


def trunk_of(network: nn.Module, *left_out: str) -> nn.Sequential:
    """Return a torchvision network without its last layers, under torchvision's names.

    Args:
        network: one whose forward is its children in order.
        left_out: the children that are not part of the trunk: "avgpool", "fc".
    """
    kept = ((name, module) for name, module in network.named_children() if name not in left_out)
    return nn.Sequential(OrderedDict(kept))


@dataclass(frozen=True)
class EncoderTable:
    """The encoders of one modality by name."""

    modality: str
    constructors: Mapping[str, Callable[..., Encoder]]

    def check(self, name: str) -> None:
        """Raise ValueError, naming what is allowed, when no encoder has this name."""
        if name not in self.constructors:
            raise ValueError(
                f"unknown {self.modality} encoder {name!r}; "
                f"allowed: {', '.join(sorted(self.constructors))}. Set encoders.{self.modality}"
            )

    def build(self, name: str, **options: Any) -> Encoder:
        """Return a new encoder with random weights from torch's generator.

        Raises:
            ValueError: no encoder has this name, or it does not take one of the options.
        """
        self.check(name)
        taken = inspect.signature(self.constructors[name]).parameters
        for option in options:
            if option not in taken:
                raise ValueError(
                    f"encoders.{option} is set, and the {self.modality} encoder {name!r} has no "
                    f"such choice; it is for {', '.join(self._with_option(option)) or 'others'}"
                )
        return self.constructors[name](**options)

    def _with_option(self, option: str) -> list[str]:
        return [
            name
            for name, make in self.constructors.items()
            if option in inspect.signature(make).parameters
        ]
