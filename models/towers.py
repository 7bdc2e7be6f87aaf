"""One encoder and one projection head for each modality of a plan.

    values [B, …] ─ encoder ─► features [B, E] ─ head ─ L2 normalise ─► embedding [B, D]

Legend: B rows of one modality, N rows of all modalities, E features, D embedding, M factors.
"""

from collections.abc import Callable
from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, Plan
from models.audio import AUDIO_ENCODERS
from models.image import IMAGE_ENCODERS
from models.options import ModelOptions
from models.video import VIDEO_ENCODERS

#: (features_dim, hidden_dim, embedding_dim, dropout) → head; see models.heads.
HeadConstructor = Callable[[int, int, int, float], nn.Module]

ENCODERS: Final = {"video": VIDEO_ENCODERS, "audio": AUDIO_ENCODERS, "image": IMAGE_ENCODERS}


class Towers(nn.Module):
    """The encoders and heads of a plan's modalities, with random weights from torch's generator.

    Args:
        options: names of the encoders, sizes of the heads.
        plan: its modalities each get a tower.
        head: which paper's projection head.
    """

    def __init__(self, options: ModelOptions, plan: Plan, head: HeadConstructor) -> None:
        super().__init__()
        self.modalities = plan.modalities
        self.encoders = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for modality in plan.modalities:
            encoder = ENCODERS[modality].build(getattr(options, modality))
            self.encoders[modality] = encoder
            self.heads[modality] = head(
                encoder.embedding_dim, options.hidden_dim, options.embedding_dim, options.dropout
            )

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed every row of every modality.

        Returns:
            Embeddings, float32 [N, D], L2-normalised, modality by modality in the plan's order; and
            their codes, int64 [N, M].

        Raises:
            ValueError: the batch lacks a modality of the plan.
        """
        missing = [modality for modality in self.modalities if modality not in batch.modalities]
        if missing:
            raise ValueError(
                f"the plan needs {', '.join(self.modalities)}, the batch of epoch {batch.epoch} "
                f"step {batch.step} has only {', '.join(batch.modalities)}"
            )
        embeddings = [
            self.embed(modality, batch.modalities[modality].values) for modality in self.modalities
        ]  # each B × D
        codes = [batch.modalities[modality].codes for modality in self.modalities]  # each B × M
        return torch.cat(embeddings), torch.cat(codes)  # N × D, N × M

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows of one modality; the head is left out: what a classifier or kNN takes.

        Args:
            modality: one of the plan's.
            values: [B, …] in the shape that the modality's encoder takes.

        Returns:
            float32 [B, E].

        Raises:
            ValueError: the plan has no such modality.
        """
        self._check(modality)
        return cast(Tensor, self.encoders[modality](values)).float()

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows of one modality: what the loss and retrieval compare.

        Returns:
            float32 [B, D], each row of length 1.

        Raises:
            ValueError: the plan has no such modality.
        """
        self._check(modality)
        projected = self.heads[modality](self.encoders[modality](values))  # B × D
        return F.normalize(projected.float(), dim=1)  # normalised in float32 at any precision

    def _check(self, modality: str) -> None:
        if modality not in self.modalities:
            raise ValueError(
                f"no encoder for {modality!r}: the plan's modalities are "
                f"{', '.join(self.modalities)}; add it to plan.modality.values to train one"
            )
