"""Maps of a ResNet: how many stages it has, how wide a cell is, what lies beyond the border.

What compares places of frames (walks, colours, cycles) takes a ResNet of finer maps, and of fewer
stages, than what pools them: ResNet-18 with cells of 8 pixels instead of 32, say.
"""

import math
from collections import OrderedDict
from typing import Final, Literal

from torch import nn

#: Residual stages of every ResNet here, behind its stem.
NUM_STAGES: Final = 4
#: What convolutions see beyond the border: zeros, or the picture mirrored.
Padding = Literal["zeros", "reflect"]


def shaped(
    trunk: nn.Sequential, num_stages: int, map_stride: int | None, padding: Padding
) -> nn.Sequential:
    """Return a ResNet's trunk with other maps.

    Args:
        trunk: its last four children are the residual stages.
        num_stages: how many of them are kept, the first ones.
        map_stride: pixels from one cell of the map to the next: the strides of the last stages are
            left out until it is so. The network's own where None.
        padding: see `Padding`.

    Raises:
        ValueError: a stride that the network cannot have.
    """
    trunk = first_stages(trunk, num_stages)
    if map_stride is not None:
        _set_stride(trunk, map_stride, num_stages - 1)
    if padding != "zeros":
        for layer in trunk.modules():
            if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple):
                layer.padding_mode = padding
                # what the constructor makes of another mode, and `forward` pads by
                layer._reversed_padding_repeated_twice = [
                    size for size in reversed(layer.padding) for _ in range(2)
                ]
    return trunk


def first_stages(trunk: nn.Sequential, num_stages: int) -> nn.Sequential:
    """Return a ResNet's trunk without its last stages."""
    left_out = NUM_STAGES - num_stages
    return nn.Sequential(OrderedDict(list(trunk.named_children())[: len(trunk) - left_out]))


def _set_stride(trunk: nn.Sequential, wanted: int, num_strided: int) -> None:
    """Leave strides out, from the last of the `num_strided` strided stages on."""
    children = list(trunk)
    stem, stages = children[: len(children) - num_strided], children[len(children) - num_strided :]
    before = math.prod(_stride(layer) for child in stem for layer in child.modules())
    allowed = [before * 2**count for count in range(len(stages) + 1)]
    if wanted not in allowed:
        raise ValueError(
            f"encoders.map_stride = {wanted}: with so many stages this ResNet's cells can be "
            f"{', '.join(map(str, allowed))} pixels wide"
        )
    for stage in stages[allowed.index(wanted) :]:
        for layer in stage.modules():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)


def _stride(layer: nn.Module) -> int:
    """Return by how much a layer of a stem shrinks the picture."""
    stride = layer.stride if isinstance(layer, nn.Conv2d | nn.MaxPool2d) else 1
    return stride if isinstance(stride, int) else stride[0]
