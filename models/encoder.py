"""What every encoder is: a network that turns each row of a batch into one vector.

Shapes: B rows, C channels, T frames, H height, W width, F mel bins, L time bins, D embedding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

import torch
from torch import Tensor, nn

#: Dimensions of a convolution's weight → its layout.
_CHANNELS_LAST: Final = {4: torch.channels_last, 5: torch.channels_last_3d}


class Encoder(nn.Module):
    """A network and the length of the vector it gives for each row.

    Args:
        network: maps [B, *] to [B, embedding_dim], or to that with trailing dimensions of size 1.
        embedding_dim: length of the vector.
        input_shape: the shape that the network takes, for messages: ("B", 3, "T", "H", "W").
            An int is a size that the input must have, a string a size that may be anything.
    """

    def __init__(
        self, network: nn.Module, embedding_dim: int, input_shape: tuple[int | str, ...]
    ) -> None:
        super().__init__()
        self.network = network
        self.embedding_dim = embedding_dim
        self.input_shape = input_shape

    def forward(self, values: Tensor) -> Tensor:
        """Encode a batch: `input_shape` → [B, embedding_dim].

        Raises:
            ValueError: the batch does not have the shape that this encoder takes.
        """
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
        features = self.network(values)  # B × embedding_dim (× 1 …)
        return cast(Tensor, features.flatten(1))

    def arrange(self, *, channels_last: bool = False, compiled: bool = False) -> None:
        """Choose how the network computes; what it computes, and its state, stay as they are.

        Args:
            channels_last: keep the weights of convolutions with their channels last in memory.
            compiled: compile the network at its first batch.
        """
        if channels_last:
            for module in self.network.modules():
                if isinstance(module, nn.Conv2d | nn.Conv3d):
                    module.to(memory_format=_CHANNELS_LAST[module.weight.ndim])  # type: ignore[call-overload]
        if compiled:
            self.network.compile()


@dataclass(frozen=True)
class EncoderTable:
    """The encoders of one modality by name."""

    modality: str
    constructors: Mapping[str, Callable[[], Encoder]]

    def check(self, name: str) -> None:
        """Raise ValueError, naming what is allowed, when no encoder has this name."""
        if name not in self.constructors:
            raise ValueError(
                f"unknown {self.modality} encoder {name!r}; "
                f"allowed: {', '.join(sorted(self.constructors))}. Set model.{self.modality}"
            )

    def build(self, name: str) -> Encoder:
        """Return a new encoder with random weights from torch's generator."""
        self.check(name)
        return self.constructors[name]()
