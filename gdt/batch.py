"""What an encoder is given: tensors by modality, each with the codes of its transformations.

B rows, M factors; a row is one transformation T of one sample, in one modality.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Modality(NamedTuple):
    """One modality's share of a batch: a tensor and its codes, which never travel apart.

    Attributes:
        values: float [B, …]: video [B, 3, T, H, W], log-mel [B, 1, F, L], image [B, 3, H, W].
        codes: int64 [B, M], one column per factor of the plan.
    """

    values: Tensor
    codes: Tensor


@dataclass(frozen=True)
class Batch:
    """The rows of one training step, and where in the run they stand.

    Attributes:
        modalities: name → (values, codes).
        epoch: zero-based epoch the batch belongs to.
        step: zero-based step within that epoch.
    """

    modalities: Mapping[str, Modality]
    epoch: int
    step: int

    def __post_init__(self) -> None:
        for name, (values, codes) in self.modalities.items():
            if codes.dtype != torch.int64 or codes.ndim != 2 or len(codes) != len(values):
                raise ValueError(
                    f"batch modality {name!r}: codes must be int64 [B, M] with B = {len(values)} "
                    f"rows like its values, got {codes.dtype} {list(codes.shape)}"
                )

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch with every tensor on `device`."""
        moved = {
            name: Modality(*(t.to(device, non_blocking=non_blocking) for t in modality))
            for name, modality in self.modalities.items()
        }
        return Batch(moved, self.epoch, self.step)

    def __repr__(self) -> str:
        shapes = ", ".join(
            f"{name}: {list(values.shape)}" for name, (values, _) in self.modalities.items()
        )
        return f"Batch(epoch={self.epoch}, step={self.step}, {shapes})"
