"""GDT: contrastive learning of any composition of transformations, under the plan's c and w.

Patrick et al., "Multi-modal Self-Supervision from Generalized Data Transformations", 2021,
arXiv:2003.04298, §3. Cross-modal learning, CMC and CLIP are this method under other plans.

Legend: N rows of this rank over all modalities, D embedding, M factors.
"""

import torch
from torch import Tensor, nn

from gdt import Batch, Plan, plan_loss
from models.heads import gdt_head
from models.options import ModelOptions
from models.towers import HeadConstructor, Towers


class GDT(nn.Module):
    """Encoders of the plan's modalities, trained by one loss over all transformations of a batch.

    Args:
        options: encoders, head sizes and temperature.
        plan: which factors there are, and what is invariant and distinctive.
        head: which paper's projection head.
    """

    def __init__(self, options: ModelOptions, plan: Plan, head: HeadConstructor = gdt_head) -> None:
        super().__init__()
        self.plan = plan
        self.temperature = options.temperature
        self.towers = Towers(options, plan, head)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, a float32 scalar.

        Over several ranks its mean is the loss of the whole batch, and so is its gradient's.
        """
        embeddings, codes = self.towers(batch)  # f(T): N × D, T: N × M
        with torch.autocast(embeddings.device.type, enabled=False):
            return plan_loss(self.plan, embeddings, codes, self.temperature)

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows without the head; see `Towers.features`."""
        return self.towers.features(modality, values)

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows, L2-normalised; see `Towers.embed`."""
        return self.towers.embed(modality, values)
