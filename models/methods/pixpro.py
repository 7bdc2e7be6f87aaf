"""PixPro: a place of one view predicts what the other view's copy says of the same place.

Xie et al., "Propagate Yourself: Exploring Pixel-Level Consistency for Unsupervised Visual
Representation Learning", CVPR 2021, arXiv:2011.10043, §3. Feature maps are compared place by place;
where the places lie in the frame is known from the boxes of the crops.

Legend: B rows of one view, P places of a map (h × w), D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, View, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts import MomentumCopy, MomentumSchedule
from models.parts.heads import conv_head
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class PixProOptions(MethodOptions):
    """`[method]`: a prediction, place by place, of what a momentum copy says of the other view.

    Attributes:
        name: "pixpro".
        hidden_dim: width of the projector's hidden layer.
        embedding_dim: length of the projection.
        sharpness: γ, exponent of the similarities by which places propagate to each other.
        distance: places closer than this share of a map's cell, its diagonal, are the same.
        momentum: share of the momentum copy that is kept at the first step; it rises to 1 at the
            last along a half cosine.
    """

    name: Literal["pixpro"] = "pixpro"
    hidden_dim: int = 4096
    embedding_dim: int = 256
    sharpness: float = 2.0
    distance: float = 0.7
    momentum: float = 0.99

    def __post_init__(self) -> None:
        self._check_counts("hidden_dim", "embedding_dim")
        self._check_shares("momentum")
        for key in ("sharpness", "distance"):
            self._check(key, getattr(self, key) > 0, "above 0")


class PixPro(Method):
    """An encoder with a projector and a propagation of its places, and a momentum copy."""

    options_type = PixProOptions
    needs = Needs(2, 2, maps=True, why="PixPro compares the places of two crops of a frame")

    def __init__(self, options: PixProOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        sizes = options.hidden_dim, options.embedding_dim
        self.towers = Towers(
            setting.encoders, self.plan, lambda features_dim: conv_head(features_dim, *sizes)
        )
        self.values = nn.ModuleDict(
            {name: nn.Linear(sizes[1], sizes[1]) for name in self.plan.modalities}
        )
        schedule = MomentumSchedule(options.momentum, rises=True, num_steps=self.facts.num_steps)
        self.momentum = MomentumCopy(self.towers, schedule)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar; in training also move the copy.

        Raises:
            ValueError: rows that are no crops.
        """
        column = self.plan.names.index("augmentation")
        views = [self.towers.views(batch.where(column, view)) for view in (0, 1)]
        queries = [[project(self.towers, view) for view in both] for both in views]
        with torch.no_grad():
            if self.training:
                step = batch.epoch * self.facts.steps_per_epoch + batch.step
                self.momentum.follow(self.towers, step)
            keys = [[project(self.momentum.network, view) for view in both] for both in views]
        with torch.autocast(keys[0][0].device.type, enabled=False):
            one, two = (
                global_mean(
                    torch.cat(
                        [
                            self._loss(*pair)
                            for pair in zip(
                                queries[ours], keys[theirs], views[ours], views[theirs], strict=True
                            )
                        ]
                    )
                )
                for ours, theirs in ((0, 1), (1, 0))
            )
        return Losses(one + two, {"predicts_second": one, "predicts_first": two})

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed rows, L2-normalised: the mean of the projection over its places, [B, D]."""
        maps = self.towers.maps(modality, values)
        return F.normalize(_project_maps(self.towers, modality, maps).mean((2, 3)), dim=1)

    def _loss(self, queries: Tensor, keys: Tensor, ours: View, theirs: View) -> Tensor:
        """Return each row's loss, [B], of maps [B, D, h, w]."""
        grid = queries.shape[2], queries.shape[3]
        flat, flat_keys = (maps.flatten(2).transpose(1, 2) for maps in (queries, keys))  # B × P × D
        values = at_least_float32(self.values[ours.modality](flat))
        predicted = propagated(flat, values, self.options.sharpness)
        same = same_places(_boxes(ours), _boxes(theirs), grid, self.options.distance)
        return consistency_loss(predicted, flat_keys, same)


def project(towers: Towers, view: View) -> Tensor:
    """Return the projection of every place of a view's rows, [B, D, h, w]."""
    return _project_maps(towers, view.modality, towers.maps(view.modality, view.values))


def _project_maps(towers: Towers, modality: str, maps: Tensor) -> Tensor:
    if maps.ndim == 5:  # frames of a clip show the same places
        maps = maps.mean(2)
    return at_least_float32(towers.heads[modality](maps))


def _boxes(view: View) -> Tensor:
    if view.boxes is None:
        raise ValueError(
            f"PixPro compares places, and the rows of {view.modality!r} have no boxes: set crop = "
            '"random_resized" in [image_augment] or [video_augment], and plan images or video only'
        )
    return view.boxes


def propagated(places: Tensor, values: Tensor, sharpness: float) -> Tensor:
    """Return for each place the values of the places that are like it, [B, P, D].

    Args:
        places: [B, P, D], what is compared: cosines, none below 0, to the power `sharpness`.
        values: [B, P, D], what is added up, each at length 1.
        sharpness: γ.
    """
    unit = F.normalize(places, dim=2)
    alike = (unit @ unit.transpose(1, 2)).clamp_min(0) ** sharpness  # B × P × P
    return alike @ F.normalize(values, dim=2)


def same_places(first: Tensor, second: Tensor, grid: tuple[int, int], distance: float) -> Tensor:
    """Say which places of two crops are the same, bool [B, P, P].

    Args:
        first: [B, 4], its box in the frame: top, left, height, width (`View.boxes`).
        second: [B, 4].
        grid: rows and columns of the map.
        distance: of the centres, as a share of the longer diagonal of a cell; less is the same.
    """
    centers, others = _centers(first, grid), _centers(second, grid)  # B × P × 2
    apart = (centers[:, :, None] - others[:, None]).norm(dim=3)  # B × P × P
    cell = torch.tensor(grid).to(first)
    diagonals = [(boxes[:, 2:] / cell).norm(dim=1) for boxes in (first, second)]  # B
    same: Tensor = apart / torch.maximum(*diagonals)[:, None, None] < distance
    return same


def _centers(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the centre of each cell, its row and column as shares of the frame, [B, P, 2]."""
    rows, columns = (
        boxes[:, axis, None]
        + (torch.arange(count).to(boxes) + 0.5) * boxes[:, axis + 2, None] / count
        for axis, count in enumerate(grid)
    )  # B × h, B × w
    shape = len(boxes), *grid
    both = torch.stack([rows[:, :, None].expand(shape), columns[:, None, :].expand(shape)], dim=3)
    return both.flatten(1, 2)


def consistency_loss(predicted: Tensor, keys: Tensor, same: Tensor) -> Tensor:
    """Return −2 times the mean cosine of the pairs that are the same place, [B]; 0 without any.

    Args:
        predicted: [B, P, D].
        keys: [B, P, D], of the other view.
        same: bool [B, P, P].
    """
    cosines = F.normalize(predicted, dim=2) @ F.normalize(keys, dim=2).transpose(1, 2)  # B × P × P
    positive = same.to(cosines)
    count = positive.sum((1, 2)) + 1e-6  # as in the authors' code
    return -2 * (cosines * positive).sum((1, 2)) / count
