"""One encoder and one projection head for each modality of a plan.

    values [B, …] ─ encoder ─► features [B, E] ─ head ─ L2 normalise ─► embedding [B, D]

Legend: B rows of one view, N rows of all views, E features, D embedding, M factors.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from gdt import Batch, Plan, View, normalize
from models.encoders import Encoder, EncoderOptions

#: features_dim → head; see models.parts.heads.
HeadConstructor = Callable[[int], nn.Module]


def at_least_float32(values: Tensor) -> Tensor:
    """Return what a network gave under autocast in float32; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class Towers(nn.Module):
    """The encoders and heads of a plan's modalities, with random weights from torch's generator.

    Args:
        encoders: their names.
        plan: its modalities each get a tower.
        head: makes a projection head for so many features.
    """

    def __init__(self, encoders: EncoderOptions, plan: Plan, head: HeadConstructor) -> None:
        super().__init__()
        self.modalities = plan.modalities
        self.encoders = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for modality in plan.modalities:
            encoder = encoders.build(modality)
            self.encoders[modality] = encoder
            self.heads[modality] = head(encoder.embedding_dim)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed every row of every view.

        Returns:
            Embeddings, float32 [N, D], L2-normalised, modality by modality in the plan's order; and
            their codes, int64 [N, M].

        Raises:
            ValueError: the batch lacks a modality of the plan.
        """
        views = self.views(batch)
        embeddings = [self.embed(view.modality, view.values) for view in views]  # each B × D
        return torch.cat(embeddings), torch.cat([view.codes for view in views])  # N × D, N × M

    def project(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`forward` without the normalisation: heads' outputs [N, D] and codes [N, M]."""
        views = self.views(batch)
        projected = [self.projection(view.modality, view.values) for view in views]  # each B × D
        return torch.cat(projected), torch.cat([view.codes for view in views])  # N × D, N × M

    def views(self, batch: Batch) -> list[View]:
        """Return a batch's views, modality by modality in the plan's order.

        Raises:
            ValueError: the batch lacks a modality of the plan.
        """
        views = [view for modality in self.modalities for view in batch.of(modality)]
        if {view.modality for view in views} != set(self.modalities):
            raise ValueError(
                f"the plan needs {', '.join(self.modalities)}, the batch of epoch {batch.epoch} "
                f"step {batch.step} has only {', '.join(batch.modalities)}"
            )
        return views

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
        return at_least_float32(self.encoder(modality)(values))

    def maps(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows of one modality, place by place: float32 [B, C, (T,) H, W].

        Raises:
            ValueError: the plan has no such modality.
        """
        return at_least_float32(self.encoder(modality).maps(values))

    def stages(self, modality: str, values: Tensor) -> list[Tensor]:
        """Encode rows of one modality; the mean over places of each residual stage: [B, C] each.

        Raises:
            ValueError: the plan has no such modality, or its encoder no stages.
        """
        maps = self.encoder(modality).stages(values)
        return [at_least_float32(stage.flatten(2).mean(2)) for stage in maps]

    def projection(self, modality: str, values: Tensor) -> Tensor:
        """Project rows of one modality: the head's output, float32 [B, D].

        Raises:
            ValueError: the plan has no such modality.
        """
        features = self.encoder(modality)(values)  # B × E
        return at_least_float32(self.heads[modality](features))

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows of one modality: what the loss and retrieval compare.

        Returns:
            float32 [B, D], each row of length 1; a row of zeros stays one, without a gradient.

        Raises:
            ValueError: the plan has no such modality.
        """
        return normalize(self.projection(modality, values))  # in float32 at any precision

    def encoder(self, modality: str) -> Encoder:
        """Return the encoder of one modality.

        Raises:
            ValueError: the plan has no such modality.
        """
        if modality not in self.modalities:
            raise ValueError(
                f"no encoder for {modality!r}: the plan's modalities are "
                f"{', '.join(self.modalities)}; add it to plan.modality.values to train one"
            )
        return cast(Encoder, self.encoders[modality])
