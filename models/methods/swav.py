"""SwAV: predict the prototypes that another view of the sample is assigned to.

Caron et al., "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", 2020,
arXiv:2006.09882, §3. Assignments come from the first `assigned_views` views, which are the global
crops; predictions from all views. As in the authors' code prototypes are brought to length 1 before
every step and get no gradient in the first steps; a queue of earlier embeddings joins the
assignment of small batches.

Legend: B rows of one view, V views, D embedding, K prototypes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts import KeyQueue, Prototypes, sinkhorn
from models.parts.heads import swav_head
from models.towers import Towers


@dataclass(frozen=True)
class SwAVOptions(MethodOptions):
    """`[method]`: a prediction of the prototypes that another view is assigned to.

    Attributes:
        name: "swav".
        hidden_dim: width of the projection head's hidden layer.
        embedding_dim: length of the L2-normalised embedding.
        num_prototypes: K; the paper takes 3000 on ImageNet.
        temperature: of the predictions.
        epsilon: of the assignment; the smaller, the sharper.
        sinkhorn_iterations: rounds of the assignment.
        assigned_views: how many views are assigned, from the first.
        frozen_prototype_steps: steps at the start in which prototypes get no gradient.
        queue_size: earlier embeddings of each assigned view, on each rank, that join its
            assignment; 0 for none. The paper takes 3840 for batches of 256.
        queue_from_epoch: the epoch with which the queue begins.
    """

    name: Literal["swav"] = "swav"
    hidden_dim: int = 2048
    embedding_dim: int = 128
    num_prototypes: int = 3000
    temperature: float = 0.1
    epsilon: float = 0.05
    sinkhorn_iterations: int = 3
    assigned_views: int = 2
    frozen_prototype_steps: int = 313
    queue_size: int = 0
    queue_from_epoch: int = 15

    def __post_init__(self) -> None:
        self._check_counts(
            "hidden_dim", "embedding_dim", "num_prototypes", "sinkhorn_iterations", "assigned_views"
        )
        self._check_temperatures("temperature", "epsilon")
        for key in ("frozen_prototype_steps", "queue_size", "queue_from_epoch"):
            self._check(key, getattr(self, key) >= 0, "at least 0")


class SwAV(Method):
    """Encoder, head, prototypes, and where asked for a queue for each assigned view."""

    options_type = SwAVOptions
    needs = Needs(least_views=2, why="SwAV predicts the assignment of one view from the others")

    def __init__(self, options: SwAVOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        num_views = self.plan.draws("augmentation")
        if options.assigned_views > num_views:
            raise ValueError(
                f"method.assigned_views = {options.assigned_views}, and the plan draws "
                f"{num_views} views: raise plan.augmentation.draws, or assign fewer"
            )
        for key in ("num_prototypes", "queue_size"):
            self.check_fits(key, getattr(options, key))
        self.options, self.num_views = options, num_views
        sizes = options.hidden_dim, options.embedding_dim
        self.towers = Towers(
            setting.encoders, self.plan, lambda features_dim: swav_head(features_dim, *sizes)
        )
        self.prototypes = Prototypes(options.embedding_dim, options.num_prototypes)
        count = options.assigned_views if options.queue_size else 0
        self.queues = nn.ModuleList(
            KeyQueue(options.queue_size, options.embedding_dim, self.plan) for _ in range(count)
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also fill the queues."""
        if self.training:
            self.prototypes.normalize()
        embeddings, codes = self.towers(batch)  # V·B × D
        with torch.autocast(embeddings.device.type, enabled=False):
            scores = self.prototypes(embeddings)  # V·B × K
            view_of = codes[:, self.plan.names.index("augmentation")]
            rows = [(view_of == view).nonzero()[:, 0] for view in range(self.num_views)]  # B each
            assigned = [
                self._assign(batch.epoch, view, embeddings[rows[view]], codes[rows[view]])
                for view in range(self.options.assigned_views)
            ]  # B × K each
            predicted = [scores[row] / self.options.temperature for row in rows]
            return Losses(swapped_prediction_loss(predicted, assigned))

    def after_backward(self, step: int) -> None:
        """Leave the prototypes as they are in the first steps."""
        if step < self.options.frozen_prototype_steps:
            self.prototypes.vectors.weight.grad = None

    @torch.no_grad()
    def _assign(self, epoch: int, view: int, embeddings: Tensor, codes: Tensor) -> Tensor:
        """Assign one view's rows [B, D] to prototypes, [B, K]; queued rows take part."""
        options, together = self.options, embeddings
        queue = self._queue(view) if epoch >= options.queue_from_epoch else None
        if queue is not None and queue.is_full:
            together = torch.cat([queue.rows.to(embeddings), embeddings])
        assigned = sinkhorn(self.prototypes(together), options.epsilon, options.sinkhorn_iterations)
        if queue is not None and self.training:
            queue.put(embeddings, codes)
        return assigned[-len(embeddings) :]

    def _queue(self, view: int) -> KeyQueue | None:
        return cast(KeyQueue, self.queues[view]) if len(self.queues) else None


def swapped_prediction_loss(predicted: Sequence[Tensor], assigned: Sequence[Tensor]) -> Tensor:
    """Return the cross-entropy of every view's prediction with every other view's assignment.

    Args:
        predicted: logits [B, K] of each view, the same samples in the same order.
        assigned: [B, K] of the first views, whose rows sum to 1.

    Returns:
        The mean over views predicted, then over views assigned; a share of the mean over ranks.
    """
    log_probabilities = [F.log_softmax(logits, dim=1) for logits in predicted]
    terms = []
    for view, target in enumerate(assigned):
        others = [log for other, log in enumerate(log_probabilities) if other != view]
        entropies = [global_mean(-(target * log).sum(dim=1)) for log in others]
        terms.append(torch.stack(entropies).mean())
    return torch.stack(terms).mean()
