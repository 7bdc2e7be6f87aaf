"""MoCo v2: queries against the keys of a slowly moving encoder, with a queue of earlier keys.

He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
arXiv:1911.05722, algorithm 1; the head is that of v2 (Chen et al. 2020, arXiv:2003.04297).

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

import copy

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, Modality, Plan, contrastive_loss, gather_with_gradients
from gdt.gather import num_ranks
from models.heads import moco_head
from models.options import ModelOptions
from models.towers import Towers

QUERY_VIEW, KEY_VIEW = 0, 1  # codes of the factor `augmentation`


class MoCo(nn.Module):
    """An encoder, its momentum encoder, and a queue of keys with their codes.

    The queue, its codes and its pointer are buffers: a checkpoint holds them.

    Args:
        options: encoder, head sizes, temperature, momentum and queue size.
        plan: with the factor `augmentation`, invariant, of two draws: query and key.

    Raises:
        ValueError: the plan does not draw a query and a key.
    """

    queue: Tensor  # K × D
    queue_codes: Tensor  # K × M, sample code −1 where no key has been yet
    queue_pointer: Tensor  # scalar: the entry that the next key replaces

    def __init__(self, options: ModelOptions, plan: Plan) -> None:
        super().__init__()
        column = plan.column("augmentation")
        if column is None or plan.draws("augmentation") != 2:
            raise ValueError(
                "MoCo compares a query view with a key view: the plan needs [plan.augmentation] "
                f'with relation = "invariant" and draws = 2; got {plan.draws("augmentation")} '
                "draws"
            )
        self.plan = plan
        self.view_column = column
        self.temperature = options.temperature
        self.momentum = options.momentum
        self.num_groups = options.batch_norm_groups
        self.towers = Towers(options, plan, moco_head)
        self.momentum_towers = copy.deepcopy(self.towers).requires_grad_(False)
        queue = F.normalize(torch.randn(options.queue_size, options.embedding_dim), dim=1)
        queue_codes = torch.zeros(options.queue_size, len(plan.names), dtype=torch.int64)
        queue_codes[:, plan.column("sample")] = -1
        self.register_buffer("queue", queue)
        self.register_buffer("queue_codes", queue_codes)
        self.register_buffer("queue_pointer", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, a float32 scalar; in training also move encoder and queue.

        Over several ranks its mean is the loss of the whole batch, and so is its gradient's.
        """
        query_rows, key_rows = self._view(batch, QUERY_VIEW), self._view(batch, KEY_VIEW)
        queries, query_codes = self._embed_groups(self.towers, query_rows)  # N × D, N × M

        with torch.no_grad():
            if self.training:
                self.update_momentum_encoder()
            key_rows = self._shuffle(key_rows)  # their codes go with them
            keys, key_codes = self._embed_groups(self.momentum_towers, key_rows)  # N × D, N × M
            keys, key_codes = gather_with_gradients(keys, key_codes)  # P × D, P × M

        contrast, weight = self._relations(query_codes, key_codes)  # N × (P+K) each
        total = (contrast * weight).sum()
        if num_ranks() > 1:  # ranks may hold different numbers of queries
            dist.all_reduce(total)
        with torch.autocast(queries.device.type, enabled=False):
            loss = contrastive_loss(
                queries,
                torch.cat([keys, self.queue]),
                contrast,
                weight,
                self.temperature,
                normalizer=total / num_ranks(),
            )

        if self.training:
            self.enqueue(keys, key_codes)
        return loss

    @torch.no_grad()
    def update_momentum_encoder(self) -> None:
        """Move the momentum encoder: θ_k ← m·θ_k + (1 − m)·θ_q."""
        for query_parameter, key_parameter in zip(
            self.towers.parameters(), self.momentum_towers.parameters(), strict=True
        ):
            key_parameter.mul_(self.momentum).add_(query_parameter, alpha=1 - self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, codes: Tensor) -> None:
        """Replace the oldest entries by these keys, from the pointer on and around the end.

        Args:
            keys: float [P, D], in the order in which they came.
            codes: int64 [P, M].
        """
        queue_size = len(self.queue)
        keys, codes = keys[-queue_size:], codes[-queue_size:]  # more than fit: the last stay
        entries = (self.queue_pointer + torch.arange(len(keys), device=keys.device)) % queue_size
        self.queue.index_copy_(0, entries, keys.to(self.queue.dtype))  # K × D
        self.queue_codes.index_copy_(0, entries, codes)  # K × M
        self.queue_pointer.add_(len(keys)).remainder_(queue_size)

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode rows with the query encoder, without its head; see `Towers.features`."""
        return self.towers.features(modality, values)

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows with the query encoder, L2-normalised; see `Towers.embed`."""
        return self.towers.embed(modality, values)

    def _view(self, batch: Batch, view: int) -> Batch:
        """Return the rows of a batch that hold one view."""
        rows = {}
        for name, (values, codes) in batch.modalities.items():
            is_view = codes[:, self.view_column] == view  # B
            rows[name] = Modality(values[is_view], codes[is_view])
        return Batch(rows, batch.epoch, batch.step)

    def _shuffle(self, batch: Batch) -> Batch:
        """Return the rows in an order drawn from torch's generator; one group needs none."""
        if self.num_groups == 1 or not self.training:
            return batch
        rows = {}
        for name, (values, codes) in batch.modalities.items():
            order = torch.randperm(len(codes)).to(codes.device)
            rows[name] = Modality(values[order], codes[order])
        return Batch(rows, batch.epoch, batch.step)

    def _embed_groups(self, towers: Towers, batch: Batch) -> tuple[Tensor, Tensor]:
        """Embed consecutive rows in groups, each with batch statistics of its own."""
        num_rows = min(len(codes) for _, codes in batch.modalities.values())
        num_groups = min(self.num_groups, num_rows) if self.training else 1
        groups: list[dict[str, Modality]] = [{} for _ in range(num_groups)]
        for name, modality in batch.modalities.items():
            parts = zip(*(t.tensor_split(num_groups) for t in modality), strict=True)
            for group, (values, codes) in zip(groups, parts, strict=True):
                group[name] = Modality(values, codes)
        embedded = [towers(Batch(group, batch.epoch, batch.step)) for group in groups]
        embeddings, codes = (torch.cat(part) for part in zip(*embedded, strict=True))
        return embeddings, codes  # N × D, N × M

    def _relations(self, query_codes: Tensor, key_codes: Tensor) -> tuple[Tensor, Tensor]:
        """Return c and w, N × (P+K): of the batch's keys only positives, of the queue the rest."""
        all_codes = torch.cat([key_codes, self.queue_codes])  # (P+K) × M
        contrast = self.plan.contrast(query_codes, all_codes)  # N × (P+K)
        weight = self.plan.weight(query_codes, all_codes)  # N × (P+K)
        in_batch = torch.arange(len(all_codes), device=contrast.device) < len(key_codes)  # P+K
        return contrast, weight * ((contrast > 0) == in_batch)
