"""The modalities there are: what a value of each is, by name and axes.

A modality is one entry of `MODALITIES`; a plan may name it once it is there, and needs an encoder
(models) and a source (pipelines) to be trained.
"""

from dataclasses import dataclass
from typing import Final

import torch


@dataclass(frozen=True)
class ModalityKind:
    """What one row of a modality is.

    Attributes:
        axes: of a batch of values, rows first.
        dtype: of values: floating point, or int64 tokens.
        about: in words.
    """

    axes: tuple[str, ...]
    dtype: torch.dtype
    about: str

    def __str__(self) -> str:
        dtype = "float" if self.dtype.is_floating_point else str(self.dtype).removeprefix("torch.")
        return f"{dtype} [{', '.join(self.axes)}]: {self.about}"


MODALITIES: Final[dict[str, ModalityKind]] = {
    "video": ModalityKind(("B", "3", "T", "H", "W"), torch.float32, "normalised RGB frames"),
    "audio": ModalityKind(("B", "1", "F", "L"), torch.float32, "log-mel, or a waveform [B, 1, S]"),
    "image": ModalityKind(("B", "3", "H", "W"), torch.float32, "normalised RGB, one frame"),
    "text": ModalityKind(("B", "S"), torch.int64, "token numbers, padded to S with 0"),
}
