"""The encoders that are evaluated: a run's own, and the same ones before their first step."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models import Method, build_method
from tools.evaluation.errors import EvaluationError
from tools.runs.run import Run

#: What is taken of a method: the encoder's features before the projection head, the embedding that
#: the loss compares, of a classifier what its head says of each class, or the encoder's last map as
#: `pooled_over_time` leaves it.
Layer = Literal["features", "embeddings", "logits", "maps"]


@dataclass(frozen=True)
class Encoder:
    """A method with the weights it is evaluated with.

    Attributes:
        name: "trained" or "untrained".
        method: in evaluation mode.
        weights: digest of its weights.
        step: optimizer steps behind them.
    """

    name: str
    method: Method
    weights: str
    step: int

    def rows(self, layer: Layer, modality: str, values: Tensor) -> npt.NDArray[np.float32]:
        """Encode the rows of one modality: float32 [B, D]; embeddings are of length 1."""
        take = {
            "features": self.method.features,
            "embeddings": self.method.embed,
            "logits": self.method.towers.projection,
            "maps": lambda *row: pooled_over_time(self.method.towers.maps(*row)),
        }[layer]
        found: Tensor = take(modality, values)
        rows: npt.NDArray[np.float32] = found.float().cpu().numpy()
        return rows


def pooled_over_time(maps: Tensor) -> Tensor:
    """Maps of sound [B, C, (F,) T] as one row each: the protocol for linear SVMs on ESC-50.

    The greatest of three places in time, every second one; scaled to length 1 along time, for each
    channel and frequency by itself; laid out as one vector (pritamqu/CrissCross@1fe8953, which
    names the GDT paper for it).

    Returns:
        float [B, C·F·T′] with T′ = (T − 3) // 2 + 1; a map shorter than three places has one.
    """
    width = min(3, maps.shape[-1])
    pooled = maps.unfold(-1, width, 2).amax(dim=-1)  # B × C × F × T′
    return torch.nn.functional.normalize(pooled, dim=-1).flatten(1)


def trained_encoder(run: Run) -> Encoder:
    """The run's method as its last checkpoint has it."""
    return Encoder("trained", run.method, weights_digest(run.method.state_dict()), run.step)


def untrained_encoder(run: Run) -> Encoder:
    """The run's method as its seed made it, before the first step."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.seed)
        method = build_method(run.config.method, run.setting).eval()
    return Encoder("untrained", method, weights_digest(method.state_dict()), 0)


def weights_digest(weights: Mapping[str, Any]) -> str:
    """Digest of a method's tensors, by name: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(weights.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def check_modalities(run: Run, asked: Sequence[str]) -> tuple[str, ...]:
    """The asked modalities, in the order of the run's plan; all of it where none is asked for.

    Raises:
        EvaluationError: the run has no encoder for one.
    """
    missing = [name for name in asked if name not in run.plan.modalities]
    if missing:
        raise EvaluationError(
            f"{run.path} has no encoder for {missing[0]!r}: its plan has the modalities "
            f"{', '.join(run.plan.modalities)}. Ask for one of those, or pretrain a run with "
            "plan.modality.values that has it"
        )
    return tuple(name for name in run.plan.modalities if name in asked or not asked)
