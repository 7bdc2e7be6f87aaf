"""MoCo v1 and v2: queries against the keys of a slowly moving encoder, and a queue of earlier ones.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
arXiv:1911.05722, algorithm 1; the head is that, or that of v2 (Chen et al. 2020, arXiv:2003.04297).

Three choices:
- A queue entry that the plan calls a positive of the query (a key of the same sample, from an
  earlier epoch) has weight 0: it is neither positive nor negative. The authors' code counts it as
  a negative, and so do we wherever no sample comes twice.
- As in the authors' code the queue starts as random unit vectors, which are negatives until real
  keys replace them. Their sample code is -1.
- Shuffling BN (§3.3): the authors shuffle the keys among 8 GPUs, so that a query and its key do
  not share batch statistics, by which the loss could be lowered without learning anything. Here the
  rows of each rank fall into `batch_norm_groups` groups with statistics of their own, and the keys
  are shuffled among those: it needs no other rank, and works on one.

Legend: N queries of this rank, P keys of all ranks, K queue entries, D embedding, M factors.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from gdt import Batch, Plan, contrastive_loss, gather_with_gradients, num_ranks
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.methods.gdt import ContrastiveOptions
from models.parts import KeyQueue, MomentumCopy, MomentumSchedule
from models.parts.heads import moco_head
from models.towers import Towers

QUERY_VIEW, KEY_VIEW = 0, 1  # codes of the factor `augmentation`


@dataclass(frozen=True)
class MoCoOptions(ContrastiveOptions):
    """`[method]`: queries against a momentum encoder's keys and a queue of earlier ones.

    Attributes:
        name: "moco".
        head: "mlp" (v2), or "linear" (v1), which has no hidden layer and no use for `hidden_dim`.
        momentum: share of the momentum encoder that is kept at each step.
        queue_size: number of earlier keys that serve as negatives.
        batch_norm_groups: groups of a rank's rows with batch statistics of their own, among which
            the keys are shuffled; 1 for none.
    """

    name: Literal["moco"] = "moco"
    head: Literal["linear", "mlp"] = "mlp"
    momentum: float = 0.999
    queue_size: int = 65536
    batch_norm_groups: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("queue_size", "batch_norm_groups")
        self._check_shares("momentum")  # 1 would never change the momentum encoder


class MoCo(Method):
    """An encoder, its momentum encoder, and a queue of keys with their codes.

    Args:
        options: head sizes, temperature, momentum and queue size.
        setting: its plan has the factor `augmentation`, invariant, of two draws: query and key.
    """

    options_type: ClassVar[type[MethodOptions]] = MoCoOptions
    needs = Needs(2, 2, why="MoCo compares a query view with a key view")

    def __init__(self, options: MoCoOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.check_fits("queue_size", options.queue_size)
        self.view_column = self.plan.names.index("augmentation")
        self.temperature = options.temperature
        self.num_groups = options.batch_norm_groups
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda features_dim: moco_head(
                features_dim,
                options.hidden_dim if options.head == "mlp" else None,
                options.embedding_dim,
                options.dropout,
            ),
        )
        self.momentum = MomentumCopy(self.towers, MomentumSchedule(options.momentum))
        self.queue = KeyQueue(options.queue_size, options.embedding_dim, self.plan)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also move encoder and queue."""
        return Losses(self.compare(batch)[0])

    def compare(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss, and this rank's queries N × D with their codes N × M."""
        query_rows = batch.where(self.view_column, QUERY_VIEW)
        queries, query_codes = self._embed_groups(self.towers, query_rows)  # N × D, N × M
        if self.training:
            self.momentum.follow(self.towers, step=0)  # at a constant momentum
        keys, key_codes = self.embed_keys(batch)
        loss = self.contrast(queries, query_codes, keys, key_codes)
        if self.training:
            self.queue.put(keys, key_codes)
        return loss, queries, query_codes

    @torch.no_grad()
    def embed_keys(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the keys of all ranks P × D, of the momentum encoder, and their codes P × M."""
        key_rows = self._shuffle(batch.where(self.view_column, KEY_VIEW))  # codes go with them
        return gather_with_gradients(*self._embed_groups(self.momentum.network, key_rows))

    def contrast(
        self, queries: Tensor, query_codes: Tensor, keys: Tensor, key_codes: Tensor
    ) -> Tensor:
        """Return the loss of queries N × D against keys P × D and the queue."""
        queue = (self.plan, self.queue, self.temperature)
        return contrast_with_queue(*queue, queries, query_codes, keys, key_codes)

    def _shuffle(self, batch: Batch) -> Batch:
        """Return the rows in an order drawn from torch's generator; one group needs none."""
        if self.num_groups == 1 or not self.training:
            return batch
        orders = (torch.randperm(len(view)).to(view.codes.device) for view in batch.views)
        shuffled = (view[order] for view, order in zip(batch.views, orders, strict=True))
        return replace(batch, views=tuple(shuffled))

    def _embed_groups(self, towers: Towers, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed consecutive rows in groups, each with batch statistics of its own."""
        groups = batch.parts(self.num_groups if self.training else 1)
        embeddings, codes = zip(*map(towers, groups), strict=True)
        return torch.cat(embeddings), torch.cat(codes)  # N × D, N × M


def contrast_with_queue(
    plan: Plan,
    queue: KeyQueue,
    temperature: float,
    queries: Tensor,
    query_codes: Tensor,
    keys: Tensor,
    key_codes: Tensor,
) -> Tensor:
    """Return the loss of queries: their positives in the batch, their negatives in the queue.

    Args:
        plan: its c and w say which keys are which; of the batch's only positives count, of the
            queue's only the rest.
        queue: K earlier keys.
        temperature: that similarities are divided by.
        queries: [N, D], of this rank.
        query_codes: int64 [N, M].
        keys: [P, D], of all ranks.
        key_codes: int64 [P, M].

    Returns:
        A scalar whose mean over ranks is the mean over all queries.
    """
    all_codes = torch.cat([key_codes, queue.codes])  # (P+K) × M
    contrast = plan.contrast(query_codes, all_codes)  # N × (P+K)
    in_batch = torch.arange(len(all_codes), device=contrast.device) < len(key_codes)  # P+K
    weight = plan.weight(query_codes, all_codes) * ((contrast > 0) == in_batch)
    total = (contrast * weight).sum()
    if num_ranks() > 1:  # ranks may hold different numbers of queries
        dist.all_reduce(total)
    with torch.autocast(queries.device.type, enabled=False):
        return contrastive_loss(
            queries,
            torch.cat([keys, queue.rows]),
            contrast,
            weight,
            temperature,
            normalizer=total / num_ranks(),
        )
