"""Colorization: colour a frame by pointing to where its colours are in the frames before.

Vondrick et al., "Tracking Emerges by Colorizing Videos", ECCV 2018, arXiv:1806.09594. The encoder
sees lightness alone; each cell of the last frame copies the colours of the cells of the others that
its embedding points to. Colours are clusters of a and b.

Legend: B clips, T frames, C channels, h × w cells of a map, N = h·w target cells, M cells of all
reference frames, D embedding, K clusters of colours.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import EmbedDataset, Losses, Method, MethodOptions, Needs, Setting
from models.parts.frame_maps import check_count, check_frames
from models.parts.kmeans import first_rows, kmeans, nearest
from models.towers import Towers, at_least_float32

_WHY = "colorization copies the colours of frames"
_COLORS_ASIDE = 16  # cells of a side of the first frame whose colours are clustered
_ITERATIONS = 20  # of the clustering


@dataclass(frozen=True)
class ColorizationOptions(MethodOptions):
    """`[method]`: colours of a frame, copied from the frames before it.

    Attributes:
        name: "colorization".
        embedding_dim: length of a cell's embedding.
        temperature: of the dot products by which cells point.
        num_clusters: K, of the colours; k-means before the first step finds them.
    """

    name: Literal["colorization"] = "colorization"
    embedding_dim: int = 64
    temperature: float = 1.0
    num_clusters: int = 16

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim")
        self._check_temperatures("temperature")
        self._check("num_clusters", self.num_clusters >= 2, "a count, at least 2")


class Colorization(Method):
    """An encoder of gray frames, a linear head for each cell, and the clusters of colours.

    Raises:
        ValueError: a plan of other rows than video, or an encoder that mixes frames.
    """

    options_type = ColorizationOptions
    beyond_encoder = "the encoder is given the lightness of Lab frames"
    needs = Needs(1, 1, positives=False, lab=True, why=_WHY)
    centroids: Tensor  # K × 2
    clustered: Tensor  # whether they are found

    def __init__(self, options: ColorizationOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(
            setting.encoders, self.plan, lambda dim: nn.Linear(dim, options.embedding_dim)
        )
        check_frames(self.towers, self.plan, setting.encoders, _WHY)
        self.register_buffer("centroids", torch.zeros(options.num_clusters, 2))
        self.register_buffer("clustered", torch.tensor(False))

    @torch.no_grad()
    def before_epoch(self, epoch: int, embed_dataset: EmbedDataset) -> None:
        """Cluster the colours of every clip's first frame, once."""
        if self.clustered:
            return
        (colors,) = embed_dataset(first_colors).values()  # samples × 2·cells
        rows = colors[colors.any(1)].unflatten(1, (2, -1)).transpose(1, 2).flatten(0, 1)
        first = first_rows(rows, self.options.num_clusters)
        self.centroids.copy_(kmeans(rows, first, _ITERATIONS).centroids)
        self.clustered.fill_(True)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch: how unlikely the last frame's own colours are.

        Raises:
            ValueError: clips of one frame.
        """
        (view,) = self.towers.views(batch)
        check_count(view.values.shape[2], 2, _WHY)
        maps = self.maps(view.modality, view.values).transpose(1, 2)  # B × T × C × h × w
        head = self.towers.heads[view.modality]
        embeddings = at_least_float32(head(maps.flatten(3).transpose(2, 3)))  # B × T × N × D
        with torch.autocast(maps.device.type, enabled=False):
            labels = self.color_labels(view.values, (maps.shape[3], maps.shape[4]))  # B × T × N
            target, references = embeddings[:, -1], embeddings[:, :-1].flatten(1, 2)
            scores = target @ references.transpose(1, 2) / self.options.temperature  # B × N × M
            wanted, there = labels[:, -1], labels[:, :-1].flatten(1)
            likelihoods, known = copied_likelihoods(scores, wanted, there)
            copied = colors_copied(scores, there, self.options.num_clusters).argmax(2) == wanted
            loss = global_mean(-likelihoods[known])
        parts = {"right": copied[known], "known": known.flatten()}
        return Losses(loss, {name: global_mean(of.float()) for name, of in parts.items()})

    def color_labels(self, values: Tensor, size: tuple[int, int]) -> Tensor:
        """Return the cluster of each cell's mean colour, int64 [B, T, h·w], of Lab frames."""
        frames = at_least_float32(values[:, 1:]).transpose(1, 2).flatten(0, 1)  # B·T × 2 × H × W
        colors = F.adaptive_avg_pool2d(frames, size).flatten(2).transpose(1, 2)
        found = nearest(colors.flatten(0, 1), self.centroids.to(colors)).assignments
        return found.view(values.shape[0], values.shape[2], -1)

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode Lab frames by their lightness; see `Towers.features`."""
        return super().features(modality, gray(values))

    def maps(self, modality: str, values: Tensor) -> Tensor:
        """Encode Lab frames by their lightness, place by place; see `Towers.maps`."""
        return super().maps(modality, gray(values))

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed Lab frames by their lightness; see `Towers.embed`."""
        return super().embed(modality, gray(values))


def gray(values: Tensor) -> Tensor:
    """Return the lightness of Lab clips [B, 3, …] in all three channels."""
    return values[:, :1].expand_as(values)


def first_colors(modality: str, values: Tensor) -> Tensor:
    """Return the mean a and b of cells of Lab clips' first frames, [B, 2·cells]."""
    frames = at_least_float32(values[:, 1:, 0])  # B × 2 × H × W
    side = min(_COLORS_ASIDE, *frames.shape[2:])
    return F.adaptive_avg_pool2d(frames, side).flatten(1)


def copied_likelihoods(scores: Tensor, wanted: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Return how likely each target cell copies its own colour, and where that can be said.

    Args:
        scores: [B, N, M], of each target cell and each cell of all references.
        wanted: int64 [B, N], the target's colours.
        there: int64 [B, M], the references'.

    Returns:
        log p, [B, N], and bool [B, N], whether a reference has the colour: without one p is 0, and
        the cell teaches nothing.
    """
    same = wanted[:, :, None] == there[:, None]  # B × N × M
    known = same.any(2)
    among = scores.masked_fill(~same & known[:, :, None], -torch.inf).logsumexp(2)
    return among - scores.logsumexp(2), known


def colors_copied(scores: Tensor, there: Tensor, num_clusters: int) -> Tensor:
    """Return the probabilities of each target cell's colours, [B, N, K], of scores [B, N, M]."""
    return scores.softmax(2) @ F.one_hot(there, num_clusters).to(scores)
