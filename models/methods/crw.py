"""CRW: walk through the frames of a clip along what looks alike, and back to where one began.

Jabri, Owens, Efros, "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020,
arXiv:2006.14613. The nodes of a frame are its patches, or the cells of its map; a walker steps from
node to node of the next frame as they are alike, turns, and comes back: it should end at its start.

Legend: B clips, T frames, N nodes of a frame, D embedding, C channels.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, View, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.frame_maps import check_count, check_frames
from models.towers import Towers, at_least_float32

_WHY = "CRW walks from frame to frame and back"
_LEAST_FRAMES = 3  # a walk over one step and back is left out, as in the authors' code
_NO_EDGE = -1e20  # the affinity of an edge that is left out
_TINY = 1e-20  # added to probabilities before their logarithm


@dataclass(frozen=True)
class CRWOptions(MethodOptions):
    """`[method]`: random walks through a clip and back.

    Attributes:
        name: "crw".
        embedding_dim: length of a node's embedding.
        temperature: of the cosines between nodes.
        edge_dropout: share of the edges between two frames that a walk cannot take.
    """

    name: Literal["crw"] = "crw"
    embedding_dim: int = 128
    temperature: float = 0.05
    edge_dropout: float = 0.1

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim")
        self._check_temperatures("temperature")
        self._check_shares("edge_dropout")


class CRW(Method):
    """An encoder of single frames, and a linear head for each node.

    Raises:
        ValueError: a plan of other rows than video, or an encoder that mixes frames.
    """

    options_type = CRWOptions
    needs = Needs(1, 1, positives=False, why=_WHY)

    def __init__(self, options: CRWOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(
            setting.encoders, self.plan, lambda dim: nn.Linear(dim, options.embedding_dim)
        )
        check_frames(self.towers, self.plan, setting.encoders, _WHY)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch: the mean over walks of each length.

        Raises:
            ValueError: clips of fewer than three frames.
        """
        (view,) = self.towers.views(batch)
        nodes = self.nodes(view)  # B × T × N × D
        left_out = self.draw_left_out(nodes) if self.options.edge_dropout else None
        with torch.autocast(nodes.device.type, enabled=False):
            walks = palindromes(*transitions(nodes, self.options.temperature, left_out))
            losses = [global_mean(return_losses(walk).mean(1)) for walk in walks]
            returns = [global_mean(returned(walk).mean(1)) for walk in walks]
        parts = {
            f"{word}_{length}_steps": value.detach()
            for length, pair in enumerate(zip(losses, returns, strict=True), start=2)
            for word, value in zip(("loss", "returned"), pair, strict=True)
        }
        return Losses(torch.stack(losses).mean(), parts)

    def nodes(self, view: View) -> Tensor:
        """Return the embedding of each node, [B, T, N, D] of length 1.

        The nodes are the patches of a grid, each the mean of its map: values [B, N, 3, T, h, w]; or
        the cells of whole frames' maps, row by row: values [B, 3, T, H, W].
        """
        check_count(view.values.shape[-3], _LEAST_FRAMES, _WHY)
        if view.values.ndim == 6:
            patches = view.values.flatten(0, 1)  # B·N × 3 × T × h × w
            means = self.towers.maps(view.modality, patches).mean((3, 4))  # B·N × C × T
            features = means.unflatten(0, view.values.shape[:2]).permute(0, 3, 1, 2)
        else:
            maps = self.towers.maps(view.modality, view.values)  # B × C × T × h × w
            features = maps.flatten(3).permute(0, 2, 3, 1)
        head = self.towers.heads[view.modality]
        return F.normalize(at_least_float32(head(features)), dim=3)

    def draw_left_out(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """Draw which edges are left out, there and back: two of bool [B, T − 1, N, N]."""
        rows, frames, count, _ = nodes.shape
        drawn = torch.rand(2, rows, frames - 1, count, count)  # on the CPU: the same on any device
        there, back = (drawn < self.options.edge_dropout).to(nodes.device)
        return there, back


def transitions(
    nodes: Tensor, temperature: float, left_out: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """Return the probabilities of the steps to the next frame, and from it: two [B, T − 1, N, N].

    An edge that is left out on the way there is not there on the way back either, which leaves out
    others besides, as in the authors' code. A node without any edge steps anywhere.

    Args:
        nodes: [B, T, N, D], of length 1.
        temperature: of their cosines.
        left_out: bool [B, T − 1, N, N], edges that are not there on the way there, and back.
    """
    there = nodes[:, :-1] @ nodes[:, 1:].transpose(2, 3)  # B × T−1 × N × N
    if left_out is not None:
        there = there.masked_fill(left_out[0], _NO_EDGE)
    back = there.transpose(2, 3)
    if left_out is not None:
        back = back.masked_fill(left_out[1], _NO_EDGE)
    return (there / temperature).softmax(3), (back / temperature).softmax(3)


def palindromes(there: Tensor, back: Tensor) -> list[Tensor]:
    """Return where walks over 2 steps and more, and back, end: of each length [B, N, N].

    Args:
        there: [B, T − 1, N, N], steps from frame t to frame t + 1; rows sum to 1.
        back: the same from frame t + 1 to frame t.
    """
    walks = []
    out, home = there[:, 0], back[:, 0]
    for step in range(1, there.shape[1]):
        out, home = out @ there[:, step], back[:, step] @ home
        walks.append(out @ home)
    return walks


def return_losses(walk: Tensor) -> Tensor:
    """Return how unlikely each node is to be where its walk [B, N, N] ends, −log p: [B, N]."""
    return -(walk.diagonal(dim1=1, dim2=2) + _TINY).log()


def returned(walk: Tensor) -> Tensor:
    """Return 1 for the nodes that are likelier than any other to end their walk, [B, N]."""
    home = torch.arange(walk.shape[1], device=walk.device)
    return (walk.argmax(2) == home).to(walk)
