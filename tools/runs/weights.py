"""Weights to begin with: another run's, an exported encoder's, torchvision's, the GDT authors'.

    file ─► names and tensors ─► layout ─► Weights: (encoders | heads, modality) → names as in
    torchvision ─► every encoder and head of a method of that modality, a momentum copy's too

| file | what it holds |
|---|---|
| a run folder, or a checkpoint in one | encoders and heads |
| `gdt export`'s safetensors | one encoder |
| torchvision's `.pth` | one encoder; its classifier is left out |
| facebookresearch/GDT's `.pth` | `video_network.base`, `audio_network.base`: two encoders; heads |

Only tensors and plain values are read, whatever the file holds.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from tools.runs.checkpoints import UNREADABLE, read_newest
from tools.runs.run_folder import RunError, RunFolder

Tensors = Mapping[str, Tensor]

#: Where a method keeps an encoder or head: …encoders.video.trunk.stem.0.weight
_PART: Final = re.compile(r"(?:^|\.)(encoders|heads)\.(\w+)\.(.+)$")
#: What our encoders put before torchvision's names, in this and in earlier versions; frame encoders
#: put it twice.
_WRAPPER: Final = re.compile(r"^(?:(?:network|trunk)\.){1,2}")
#: The authors' names of their encoders, and of the three layers of their heads → of ours.
_AUTHORS: Final = {"video_network.base": "video", "audio_network.base": "audio"}
_AUTHORS_HEADS: Final = {"mlp_v.block_forward": "video", "mlp_a.block_forward": "audio"}
_AUTHORS_LAYERS: Final = {"2": "1", "4": "2", "8": "5"}
#: What torchvision's S3D puts before the names of all layers but its classifier.
_S3D: Final = "features."
#: Classifiers of torchvision's networks, which an encoder is without.
_CLASSIFIERS: Final = ("fc.", "classifier.", "heads.", "head.")


@dataclass(frozen=True)
class Weights:
    """What a file gives.

    Attributes:
        source: its name, for messages.
        parts: ("encoders" or "heads", modality) → names as in torchvision → tensors. The modality
            of a bare network is "", which fits any.
    """

    source: str
    parts: Mapping[tuple[str, str], Tensors]


def read_weights(source: str) -> Weights:
    """Read a file or a run folder.

    Raises:
        RunError: there is none, it cannot be read, or holds no weights of a known layout.
    """
    path = Path(source)
    if path.is_dir():
        newest = read_newest(RunFolder(path), lambda line: None)
        if newest is None:
            raise RunError(
                f"{path} has no checkpoint to take weights from; name a run that has one"
            )
        return Weights(source, _ours(newest[1]["state_dict"]))
    tensors = _tensors(_read(path))
    parts = _ours(tensors) or _authors(tensors) or _bare(tensors)
    if not parts:
        raise RunError(
            f"{path} holds no weights that are known here (it has {', '.join(list(tensors)[:3])}, "
            "…): give a run folder, a checkpoint, a file of `gdt export`, torchvision's weights of "
            "a network, or a checkpoint of facebookresearch/GDT"
        )
    return Weights(source, parts)


def initialize(method: nn.Module, weights: Weights) -> str:
    """Give a method's encoders and heads these weights, in place.

    Every encoder that the file has a part for must fit it in all names and shapes; heads that do
    not fit stay as they were drawn. A classifier's head takes the first layers of a projection
    head, where it has such layers; they must fit.

    Returns:
        A line that says what was taken.

    Raises:
        RunError: an encoder does not fit, or nothing does.
    """
    state = method.state_dict()
    slots: dict[tuple[str, str], dict[str, list[str]]] = {}  # part → its names → the state's
    for name in state:
        if match := _PART.search(name):
            kind, modality, rest = match.groups()
            slots.setdefault((kind, modality), {}).setdefault(_WRAPPER.sub("", rest), []).append(
                name
            )
    taken, left, faults = [], [], []
    copies: list[tuple[Tensor, Tensor]] = []
    for (kind, modality), names in slots.items():
        part, own = f"{modality} {kind[:-1]}", weights.parts.get((kind, modality))
        given = own or weights.parts.get((kind, ""), {})
        wanted = {name: state[places[0]] for name, places in names.items()}
        projection = {name: t for name, t in wanted.items() if not name.startswith(_CLASSIFIERS)}
        if kind == "heads" and 0 < len(projection) < len(wanted):
            given = {name: given[name] for name in projection if name in given}
            if fault := _misfit(projection, given):
                faults.append(f"its {part} has not the layers that a classifier takes: {fault}")
                continue
            names = {name: names[name] for name in projection}
            part, wanted = f"first layers of the {part}", projection
        fault = _misfit(wanted, given)
        if fault is None:
            taken.append(part)
            copies += [(state[place], given[name]) for name in names for place in names[name]]
        elif own and kind == "encoders":
            faults.append(f"its {part} is another one: {fault}")
        else:
            left.append(part)
    left += dict.fromkeys(name.partition(".")[0] for name in state if not _PART.search(name))
    if faults or not any(part.endswith("encoder") for part in taken):
        reason = "; ".join(faults) or "it has weights of no encoder that this config builds"
        raise RunError(
            f"{weights.source} cannot be begun from: {reason}. Build the same encoder (the config "
            "beside a run says which), or begin from other weights"
        )
    with torch.no_grad():
        for mine, theirs in copies:
            mine.copy_(theirs)
    rest = f"; as drawn: {', '.join(left)}" if left else ""
    return f"weights of {weights.source}: {', '.join(taken)}{rest}"


def encoder_names(state: Tensors) -> dict[str, Tensor]:
    """An encoder's state under torchvision's names."""
    return {_WRAPPER.sub("", name): tensor for name, tensor in state.items()}


def _misfit(wanted: Tensors, given: Tensors) -> str | None:
    missing, extra = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing:
        return f"it lacks {missing[0]} and {len(missing) - 1} more"
    if extra:
        return f"it has {extra[0]} and {len(extra) - 1} more"
    for name, tensor in wanted.items():
        if tensor.shape != given[name].shape:
            return f"{name} is {list(given[name].shape)} there and {list(tensor.shape)} here"
    return None


def _ours(tensors: Tensors) -> dict[tuple[str, str], dict[str, Tensor]]:
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _PART.search(name.removeprefix("method."))
        if match is not None and name.removeprefix("method.").startswith("towers."):
            kind, modality, rest = match.groups()
            parts.setdefault((kind, modality), {})[_WRAPPER.sub("", rest)] = tensor
    return parts


def _authors(tensors: Tensors) -> dict[tuple[str, str], dict[str, Tensor]]:
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        for prefix, modality in _AUTHORS.items():
            if name.startswith(f"{prefix}."):
                part = parts.setdefault(("encoders", modality), {})
                if not name.removeprefix(f"{prefix}.").startswith(_CLASSIFIERS):
                    part[name.removeprefix(f"{prefix}.")] = tensor
        for prefix, modality in _AUTHORS_HEADS.items():
            if name.startswith(f"{prefix}."):
                layer, _, rest = name.removeprefix(f"{prefix}.").partition(".")
                part = parts.setdefault(("heads", modality), {})
                part[f"{_AUTHORS_LAYERS.get(layer, layer)}.{rest}"] = tensor
    return parts


def _bare(tensors: Tensors) -> dict[tuple[str, str], dict[str, Tensor]]:
    kept = {name: t for name, t in tensors.items() if not name.startswith(_CLASSIFIERS)}
    if kept and all(name.startswith(_S3D) for name in kept):
        kept = {name.removeprefix(_S3D): tensor for name, tensor in kept.items()}
    return {("encoders", ""): kept} if kept else {}


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(
            f"{path} cannot be read as weights ({cause}): a .safetensors file, or one that torch "
            "wrote with tensors and plain values alone"
        ) from error


def _tensors(content: Any) -> dict[str, Tensor]:
    """The tensors by name, out of what checkpoints commonly wrap them in."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        return {}
    return {
        str(name).removeprefix("module."): tensor
        for name, tensor in content.items()
        if isinstance(tensor, Tensor)
    }
