"""GDT: contrastive learning of any composition of transformations, under the plan's c and w.

Patrick et al., "Multi-modal Self-Supervision from Generalized Data Transformations", 2021,
arXiv:2003.04298, §3. Cross-modal learning, CMC and CLIP are this method under other plans.

Legend: N rows of this rank over all modalities, D embedding, M factors.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from gdt import Batch, LossOptions, Plan, contrastive_loss, embed_in_chunks, plan_loss
from models.method import Losses, Method, MethodOptions, Setting
from models.parts.heads import gdt_head
from models.towers import HeadConstructor, Towers


@dataclass(frozen=True)
class ContrastiveOptions(MethodOptions):
    """What GDT and its kin share.

    Attributes:
        hidden_dim: width of the projection head's hidden layer.
        embedding_dim: length of the L2-normalised embedding that the loss compares.
        temperature: ρ of the loss; similarities are divided by it.
        dropout: probability with which the projection head drops its inputs, 0 for none.

    Raises:
        ValueError: a number outside its range.
    """

    hidden_dim: int = 512
    embedding_dim: int = 256
    temperature: float = 0.07
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim")
        self._check_temperatures("temperature")
        self._check_shares("dropout")


@dataclass(frozen=True)
class GDTOptions(ContrastiveOptions):
    """`[method]`: contrast of all transformations of a batch, as the plan relates them.

    Attributes:
        name: "gdt".
        loss: `[method.loss]`: the paper's loss, or one of its relatives.
    """

    name: Literal["gdt"] = "gdt"
    loss: LossOptions = field(default_factory=LossOptions)


class GDT(Method):
    """Encoders of the plan's modalities, trained by one loss over all transformations of a batch.

    Args:
        options: head sizes and temperature.
        setting: the plan says what is invariant and distinctive.
    """

    options_type: ClassVar[type[MethodOptions]] = GDTOptions
    embeds_in_chunks = True

    def __init__(self, options: ContrastiveOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.temperature = options.temperature
        self.loss = options.loss if isinstance(options, GDTOptions) else LossOptions()
        self.towers = Towers(setting.encoders, setting.plan, self.head(options))

    @staticmethod
    def head(options: ContrastiveOptions) -> HeadConstructor:
        """Return the paper's projection head."""
        return lambda features_dim: gdt_head(
            features_dim, options.hidden_dim, options.embedding_dim, options.dropout
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar."""
        if self.num_chunks == 1:
            embeddings, codes = self.towers(batch)  # f(T): N × D, T: N × M
        else:
            embeddings, codes = embed_in_chunks(self.towers, batch.parts(self.num_chunks))
        with torch.autocast(embeddings.device.type, enabled=False):
            loss = plan_loss(self.plan, embeddings, codes, self.temperature, self.loss)
        return Losses(loss)

    @classmethod
    def loss_of_equal_embeddings(cls, plan: Plan, batch_size: int) -> float | None:
        """Return the loss when all embeddings are equal: what the plan's w alone gives."""
        codes = plan.codes(torch.arange(batch_size))
        equal = torch.zeros(len(codes), 1)
        tables = plan.contrast(codes, codes), plan.weight(codes, codes)
        return float(contrastive_loss(equal, equal, *tables, 1.0))
