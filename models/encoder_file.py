"""An encoder as a file to take home: safetensors with torchvision's names, and what it needs.

    {"stem.0.weight": …, "layer1.0.conv1.0.0.weight": …}, metadata: what `EncoderFile` says

An encoder that is a torchvision network without its classifier has that network's names, so
`network.fc = nn.Identity(); network.load_state_dict(load_file(path))` takes it. Of a run that
learned labels the linear layer is there too, as fc.weight and fc.bias, and the classes' names.
"""

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from torch import Tensor, nn

from models.encoders import Encoder, EncoderOptions

FORMAT, VERSION = "gdt-encoder", "1"
#: Encoders whose trunk is one child of the torchvision network → the child's name.
_INSIDE: Final = {"s3d": "features."}
#: What the linear layer's names begin with, as in torchvision's ResNets.
_HEAD: Final = "fc."


class EncoderFileError(Exception):
    """A file that holds no encoder, or another one than it says."""


@dataclass(frozen=True)
class EncoderFile:
    """What a file says of its encoder, beside the weights.

    Attributes:
        modality: "video", "audio", "image" or "text".
        name: in ENCODERS[modality].
        options: what the encoder was built with besides: {"patch_size": 8}.
        embedding_dim: length of the vector that it gives.
        inputs: how its input is made: sizes, rates, mean and standard deviation, mel bins, …
        facts: where it comes from: steps, plan, data set, …
        classes: names of what the linear layer tells apart, in its order; empty where there is no
            such layer.
    """

    modality: str
    name: str
    embedding_dim: int
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()


def save_encoder(
    encoder: Encoder, about: EncoderFile, path: Path, head: nn.Linear | None = None
) -> None:
    """Write an encoder, and the linear layer of its classes, atomically; the folder is made."""
    from safetensors.torch import save

    named = outside_state(about.name, encoder.state_dict())
    if head is not None:
        named |= {f"{_HEAD}{name}": tensor for name, tensor in head.state_dict().items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}
    parts = {name: json.dumps(value) for name, value in vars(about).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(save(tensors, {"format": FORMAT, "version": VERSION, **parts}))
    partial.replace(path)


def load_encoder(path: str | Path) -> Encoder:
    """Build the encoder of a file, with its weights, in evaluation mode on the CPU.

    Its input is described by `describe_encoder(path).inputs`.

    Raises:
        EncoderFileError: the file cannot be read, or holds no encoder of this version.
    """
    from safetensors.torch import load_file

    about = describe_encoder(path)
    try:
        named: dict[str, Any] = {about.modality: about.name, **about.options}
        encoder = EncoderOptions(**named).build(about.modality)
    except (TypeError, ValueError) as error:
        raise EncoderFileError(f"{path}: this version has no such encoder: {error}") from error
    tensors = load_file(path)
    if about.classes:
        tensors = {name: t for name, t in tensors.items() if not name.startswith(_HEAD)}
    wanted = encoder.state_dict()
    names = {name: outside_name(about.name, name) for name in wanted}
    odd = sorted(set(names.values()) ^ tensors.keys()) or [
        outside
        for name, outside in names.items()
        if outside in tensors and tensors[outside].shape != wanted[name].shape
    ]
    if odd:
        raise EncoderFileError(
            f"{path}: its weights are not those of the {about.modality} encoder {about.name!r}: "
            f"{odd[0]} and {len(odd) - 1} more differ. Export it again with `gdt export`"
        )
    encoder.load_state_dict({name: tensors[outside] for name, outside in names.items()})
    return encoder.eval()


def load_classifier(path: str | Path) -> nn.Sequential:
    """Build the encoder of a file and its linear layer: values → a logit for each class, [B, K].

    Its classes are `describe_encoder(path).classes`.

    Raises:
        EncoderFileError: see `load_encoder`; or it has no such layer.
    """
    from safetensors.torch import load_file

    encoder, classes = load_encoder(path), describe_encoder(path).classes
    tensors, head = load_file(path), nn.Linear(encoder.embedding_dim, len(classes) or 1)
    state = {name: tensors.get(f"{_HEAD}{name}") for name in head.state_dict()}
    wanted = {name: tensor.shape for name, tensor in head.state_dict().items()}
    if {name: None if t is None else t.shape for name, t in state.items()} != wanted:
        raise EncoderFileError(
            f"{path} holds no classifier: export a run of `gdt finetune`, or take its features "
            "with load_encoder"
        )
    head.load_state_dict(state)
    return nn.Sequential(OrderedDict(encoder=encoder, fc=head)).eval()


def describe_encoder(path: str | Path) -> EncoderFile:
    """What a file says of its encoder; no weights are read.

    Raises:
        EncoderFileError: see `load_encoder`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
        if (metadata.pop("format", None), metadata.pop("version", None)) != (FORMAT, VERSION):
            raise EncoderFileError(
                f"{path} is not an encoder of this version ({FORMAT} {VERSION}): write one with "
                "`gdt export RUN --modality video`. Weights of torchvision or of a run are for "
                "`gdt pretrain --init-from`"
            )
        return EncoderFile(**{name: json.loads(text) for name, text in metadata.items()})
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise EncoderFileError(f"{path} cannot be read as an encoder: {error}") from error


def outside_name(encoder: str, name: str) -> str:
    """A weight's name outside of `Encoder`: torchvision's, where its network is one of theirs."""
    plain = name.removeprefix("trunk.").removeprefix("trunk.")  # twice in a frame encoder
    return _INSIDE.get(encoder, "") + plain


def outside_state(encoder: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's state under those names."""
    return {outside_name(encoder, name): tensor for name, tensor in state.items()}
