"""DetCo: MoCo at several depths of the network, between whole views and jigsaws of their patches.

Xie et al., "DetCo: Unsupervised Contrastive Learning for Object Detection", ICCV 2021,
arXiv:2102.04803, §3. Each stage of the encoder has heads and queues of its own, for whole views and
for patches; queries of whole views look for keys of whole views, queries of patches for keys of
patches, and for those of whole views. The authors published no code of the pretraining; the heads'
layers and the stages' weights are those of an implementation by others. Whether the last of the
three terms stands at each stage is an open question there; here it does.

View 0 is the query, 1 the key, 2 the query's patches, 3 the key's.

Legend: N queries of this rank, P keys of all ranks, L stages, C channels of one, D embedding.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from gdt import Batch, View, gather_with_gradients, normalize
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.methods.moco import contrast_with_queue
from models.parts import KeyQueue, MomentumCopy, MomentumSchedule
from models.parts.heads import moco_head
from models.parts.jigsaw import in_random_order, pieces_of
from models.towers import Towers, at_least_float32

QUERY, KEY, QUERY_PIECES, KEY_PIECES = range(4)  # codes of the factor `augmentation`


@dataclass(frozen=True)
class DetCoOptions(MethodOptions):
    """`[method]`: queries at each stage of the network, of whole views and of their patches.

    Attributes:
        name: "detco".
        embedding_dim: length of the L2-normalised embeddings.
        temperature: that similarities are divided by.
        momentum: share of the momentum encoder that is kept at each step.
        queue_size: keys in each of the 2 · L queues.
        num_pieces: the n · n patches of the last two views' `grid`.
        stage_weights: of the loss at each of the L last stages, the first one first.
    """

    name: Literal["detco"] = "detco"
    embedding_dim: int = 128
    temperature: float = 0.2
    momentum: float = 0.999
    queue_size: int = 65536
    num_pieces: int = 9
    stage_weights: tuple[float, ...] = (0.1, 0.4, 0.7, 1.0)

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim", "queue_size", "num_pieces")
        self._check_temperatures("temperature")
        self._check_shares("momentum")
        ok = min(self.stage_weights, default=0) > 0
        self._check("stage_weights", ok, "above 0, one for each of the last stages")


class DetCo(Method):
    """An encoder with heads at each stage, a momentum copy of both, and queues of keys."""

    options_type = DetCoOptions
    needs = Needs(
        4, 4, one_modality=True, why="DetCo compares query, key, and the patches of either"
    )

    def __init__(self, options: DetCoOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.check_fits("queue_size", options.queue_size)
        self.options, dim, count = options, options.embedding_dim, len(options.stage_weights)
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        (self.modality,) = self.plan.modalities
        channels = self.towers.encoder(self.modality).stage_channels()
        if len(channels) < count:
            raise ValueError(
                f"method.stage_weights = {list(options.stage_weights)} are of {count} stages, and "
                f"the {self.modality} encoder has {len(channels)}: give fewer, or take a ResNet"
            )
        self.heads = StageHeads(channels[-count:], dim, options.num_pieces)
        schedule = MomentumSchedule(options.momentum)
        self.momentum = MomentumCopy(self.towers, schedule)
        self.momentum_heads = MomentumCopy(self.heads, schedule)
        self.queues, self.piece_queues = (
            nn.ModuleList(KeyQueue(options.queue_size, dim, self.plan) for _ in channels[-count:])
            for _ in range(2)
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also move copy and queues."""
        column = self.plan.names.index("augmentation")
        views = [self.towers.views(batch.where(column, view))[0] for view in range(4)]
        queries = self.heads.whole(self.towers, views[QUERY])  # L × N × D
        pieces = self.heads.pieces(self.towers, views[QUERY_PIECES])
        if self.training:
            self.momentum.follow(self.towers, step=0)  # at a constant momentum
            self.momentum_heads.follow(self.heads, step=0)
        with torch.no_grad():
            copy, heads = self.momentum.network, self.momentum_heads.network
            keys = [
                [gather_with_gradients(stage, view.codes) for stage in stages]
                for view, stages in (
                    (views[KEY], heads.whole(copy, views[KEY])),
                    (views[KEY_PIECES], heads.pieces(copy, views[KEY_PIECES])),
                )
            ]  # 2 × L of P × D and P × M
        totals = queries[0].new_zeros(3)
        for stage, weight in enumerate(self.options.stage_weights):
            whole, cut = _queue(self.queues, stage), _queue(self.piece_queues, stage)
            terms = (
                (queries[stage], views[QUERY], whole, keys[0][stage]),
                (pieces[stage], views[QUERY_PIECES], cut, keys[1][stage]),
                (pieces[stage], views[QUERY_PIECES], whole, keys[0][stage]),
            )
            losses = [
                contrast_with_queue(
                    self.plan, queue, self.options.temperature, rows, view.codes, *of_keys
                )
                for rows, view, queue, of_keys in terms
            ]
            totals = totals + weight * torch.stack(losses)
            if self.training:
                whole.put(*keys[0][stage])
                cut.put(*keys[1][stage])
        names = ("whole", "pieces", "pieces_to_whole")
        return Losses(totals.sum(), dict(zip(names, totals, strict=True)))

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows, L2-normalised: what the last stage's head says of them, [B, D]."""
        codes = torch.zeros(len(values), len(self.plan.names), dtype=torch.int64)
        return self.heads.whole(self.towers, View(modality, values, codes))[-1]


class StageHeads(nn.Module):
    """Heads for whole views and for the patches of a view behind one another, at each stage.

    Args:
        channels: C of each stage.
        dim: D.
        num_pieces: patches of a view.
    """

    def __init__(self, channels: Sequence[int], dim: int, num_pieces: int) -> None:
        super().__init__()
        self.num_pieces = num_pieces
        self.of_whole, self.of_pieces = (
            nn.ModuleList(moco_head(width, width, dim, dropout=0.0) for width in widths)
            for widths in (channels, [num_pieces * width for width in channels])
        )

    def whole(self, towers: Towers, view: View) -> list[Tensor]:
        """Embed whole rows at each stage, [B, D] of length 1."""
        stages = towers.stages(view.modality, view.values)[-len(self.of_whole) :]
        pairs = zip(cast(Iterable[nn.Module], self.of_whole), stages, strict=True)
        return [normalize(at_least_float32(head(stage))) for head, stage in pairs]

    def pieces(self, towers: Towers, view: View) -> list[Tensor]:
        """Embed rows that are cut into patches [B, P, …], at each stage in an order of its own."""
        cut = pieces_of(towers, view, self.num_pieces)
        stages = towers.stages(view.modality, cut)[-len(self.of_pieces) :]
        embedded = []
        for head, stage in zip(cast(Iterable[nn.Module], self.of_pieces), stages, strict=True):
            rows = in_random_order(stage.unflatten(0, (-1, self.num_pieces)))  # B × P × C
            embedded.append(normalize(at_least_float32(head(rows.flatten(1)))))
        return embedded


def _queue(queues: nn.ModuleList, stage: int) -> KeyQueue:
    return cast(KeyQueue, queues[stage])
