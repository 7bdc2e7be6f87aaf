"""InfoMin: MoCo's queue, and besides the query a jigsaw of the sample that looks for the same key.

Tian et al., "What Makes for Good Views for Contrastive Learning?", NeurIPS 2020, arXiv:2005.10243,
§5 and §6. Good views share what a task needs and little else: stronger augmentation, and pieces in
random order, leave less to be shared. View 0 is the query, 1 the key, 2 the pieces. As in the
authors' code only keys enter the queue, and the momentum encoder follows after the optimizer's
step. The views' search of §4, with flows, was never published and is not here.

Legend: N queries of this rank, P keys of all ranks, K keys in the queue, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

from gdt import Batch
from models.method import Losses, Needs, Setting
from models.methods.moco import QUERY_VIEW, MoCo, MoCoOptions
from models.parts import Jigsaw
from models.parts.heads import moco_head

PIECES_VIEW = 2  # code of the factor `augmentation`


@dataclass(frozen=True)
class InfoMinOptions(MoCoOptions):
    """`[method]`: a query and its jigsaw against a momentum encoder's keys and a queue.

    Attributes:
        name: "infomin".
        num_pieces: of the jigsaw: the n · n patches of the third view's `grid`.
        jigsaw_share: β, weight of the jigsaw; the query has 1 − β.
    """

    name: Literal["infomin"] = "infomin"  # type: ignore[assignment]
    hidden_dim: int = 2048
    embedding_dim: int = 128
    temperature: float = 0.15
    num_pieces: int = 9
    jigsaw_share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("num_pieces")
        self._check_shares("jigsaw_share")


class InfoMin(MoCo):
    """MoCo with a head for the pieces of a jigsaw."""

    options_type = InfoMinOptions
    needs = Needs(
        3, 3, one_modality=True, why="InfoMin compares a query and a jigsaw with one key view"
    )

    def __init__(self, options: InfoMinOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.jigsaw_share, dim = options.jigsaw_share, options.embedding_dim
        head = moco_head(
            self.towers.encoder(self.plan.modalities[0]).embedding_dim,
            options.hidden_dim if options.head == "mlp" else None,
            dim,
            options.dropout,
        )
        self.jigsaw = Jigsaw(head, dim, options.num_pieces)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also fill the queue."""
        queries = self._embed_groups(self.towers, batch.where(self.view_column, QUERY_VIEW))
        (view,) = self.towers.views(batch.where(self.view_column, PIECES_VIEW))
        pieces = self.jigsaw.embed(self.towers, view)  # N × D
        keys = self.embed_keys(batch)
        of_query = self.contrast(*queries, *keys)
        of_jigsaw = self.contrast(pieces, view.codes, *keys)
        if self.training:
            self.queue.put(*keys)
        share = self.jigsaw_share
        parts = {"query": of_query, "jigsaw": of_jigsaw}
        return Losses((1 - share) * of_query + share * of_jigsaw, parts)

    def after_step(self, step: int) -> None:
        """Move the momentum encoder towards the encoder."""
        self.momentum.follow(self.towers, step)
