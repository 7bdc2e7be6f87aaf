"""Tracked patches: a patch is nearer to itself, some frames later, than to patches of other clips.

Wang, Gupta, "Unsupervised Learning of Visual Representations using Videos", ICCV 2015,
arXiv:1505.00687. A patch is cut out where most moves, and tracked by a correlation filter of its
pixels (in place of the paper's SURF points, trajectories and KCF tracker); where it is at the end
is the other patch of the pair.

Legend: B clips, T frames, D embedding, R rows of all pairs (2·B), K negatives of a pair.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.methods.udt import gaussian, response
from models.parts.frame_maps import check_count, check_frames
from models.towers import Towers, at_least_float32

_WHY = "tracked patches are those of two frames"
_SHORTEST = 1e-6  # added to lengths before they divide, as in the authors' code
_PLACES_ASIDE = 8  # where a patch may begin
_WINDOW = 2.0  # side of what is searched around a patch, by the patch's
_WINDOW_PIXELS = 32
_REGULARIZATION = 1e-2  # of the filter of pixels


@dataclass(frozen=True)
class TrackedPatchesOptions(MethodOptions):
    """`[method]`: triplets of tracked patches and patches of other clips.

    Attributes:
        name: "tracked_patches".
        embedding_dim: length of a patch's embedding.
        patch_share: side of a patch, share of the frame's.
        patch_size: pixels of a side that a patch is scaled to.
        margin: by which negatives have to be further off, in 1 − cosine.
        num_negatives: K, of each pair.
        hard_share: share of them that is drawn among the K nearest; the others are drawn among all
            within the margin.
        random_epochs: epochs in which all are drawn among all.
    """

    name: Literal["tracked_patches"] = "tracked_patches"
    embedding_dim: int = 1024
    patch_share: float = 0.4
    patch_size: int = 227
    margin: float = 0.5
    num_negatives: int = 4
    hard_share: float = 0.5
    random_epochs: int = 1

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim", "patch_size", "num_negatives")
        self._check("patch_share", 0 < self.patch_share < 1, "more than 0, less than 1")
        self._check("hard_share", 0 <= self.hard_share <= 1, "at least 0, at most 1")
        for key in ("margin", "random_epochs"):
            self._check(key, getattr(self, key) >= 0, "at least 0")


class TrackedPatches(Method):
    """An encoder of patches, and a linear head.

    Raises:
        ValueError: a plan of other rows than video, or an encoder that mixes frames.
    """

    options_type = TrackedPatchesOptions
    needs = Needs(1, 1, positives=False, why=_WHY)

    def __init__(self, options: TrackedPatchesOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(
            setting.encoders, self.plan, lambda dim: nn.Linear(dim, options.embedding_dim)
        )
        check_frames(self.towers, self.plan, setting.encoders, _WHY)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch: what of the margins negatives fall short of.

        Raises:
            ValueError: clips of one frame.
        """
        (view,) = self.towers.views(batch)
        check_count(view.values.shape[2], 2, _WHY)
        frames = view.values.unbind(2)  # B × 3 × S × S
        with torch.no_grad():
            start = moving_places(frames[0], frames[1], self.options.patch_share)
            stop = track(frames, start, self.options.patch_share)
        patches = [
            cut_out(frame, places, self.options.patch_share, self.options.patch_size)
            for frame, places in ((frames[0], start), (frames[-1], stop))
        ]
        rows = torch.stack(patches, dim=1).flatten(0, 1)[:, :, None]  # 2·B × 3 × 1 × P × P
        embedded = at_least_float32(self.towers.projection(view.modality, rows))
        embedded = embedded / (embedded.norm(dim=1, keepdim=True) + _SHORTEST)
        clips = view.codes[:, self.plan.names.index("sample")].repeat_interleave(2)
        with torch.autocast(embedded.device.type, enabled=False):
            every, labels = gather_with_gradients(embedded, clips[:, None])
            hard = self.options.hard_share if batch.epoch >= self.options.random_epochs else 0.0
            chosen = self.choose(embedded, clips, every, labels[:, 0], hard)
            errors = triplet_errors(embedded, every, chosen, self.options.margin)
        loss = global_mean(errors / (2 * self.options.num_negatives))
        return Losses(loss, {"moved": global_mean((stop - start).norm(dim=1))})

    @torch.no_grad()
    def choose(
        self, pairs: Tensor, clips: Tensor, every: Tensor, labels: Tensor, hard_share: float
    ) -> Tensor:
        """Choose each pair's negatives: bool [B, R], K at most.

        Args:
            pairs: [2·B, D], of length 1; rows 2i and 2i + 1 are a pair.
            clips: int64 [2·B], what each row is of.
            every: [R, D], the rows that may be negatives.
            labels: int64 [R].
            hard_share: see `TrackedPatchesOptions`.
        """
        anchors, positives = pairs[::2], pairs[1::2]
        cosines = anchors @ every.T  # B × R
        positive = (anchors * positives).sum(1, keepdim=True)
        within = (labels[None] != clips[::2, None]) & (cosines - positive + self.options.margin > 0)
        return draw_negatives(cosines, within, self.options.num_negatives, hard_share)


def draw_negatives(cosines: Tensor, within: Tensor, count: int, hard_share: float) -> Tensor:
    """Draw negatives of each row, bool [B, R]: all that are allowed, or `count` of them.

    Args:
        cosines: [B, R].
        within: bool [B, R], which are allowed.
        count: K.
        hard_share: share of K that is drawn among the K of the largest cosines; the others are
            drawn among all that are left.
    """
    num_hard = round(count * hard_share)
    top = cosines.masked_fill(~within, -torch.inf).topk(min(count, cosines.shape[1]), dim=1).indices
    nearest = torch.zeros_like(within).scatter_(1, top, value=True) & within
    hard = _drawn(nearest, num_hard)
    return (
        hard
        | _drawn(within & ~hard, count - num_hard)
        | (within & (within.sum(1, keepdim=True) <= count))
    )


def _drawn(allowed: Tensor, count: int) -> Tensor:
    """Draw `count` of each row's allowed ones, bool; fewer where there are fewer."""
    order = torch.rand(allowed.shape).to(allowed.device).masked_fill(~allowed, 2.0)
    chosen = order.argsort(1)[:, :count]
    return torch.zeros_like(allowed).scatter_(1, chosen, value=True) & allowed


def triplet_errors(pairs: Tensor, every: Tensor, chosen: Tensor, margin: float) -> Tensor:
    """Return by how much each pair's negatives are too near, to either of the pair, [B].

    Args:
        pairs: [2·B, D]; rows 2i and 2i + 1 are a pair.
        every: [R, D].
        chosen: bool [B, R], the negatives.
        margin: see `TrackedPatchesOptions`.
    """
    anchors, positives = pairs[::2], pairs[1::2]
    near = (anchors * positives).sum(1, keepdim=True)
    short = sum(F.relu(of @ every.T - near + margin) for of in (anchors, positives))
    return (short * chosen).sum(1)


def moving_places(first: Tensor, second: Tensor, share: float) -> Tensor:
    """Return the middle of the square in which most changes, x and y in [0, 1], [B, 2].

    Args:
        first: [B, 3, S, S].
        second: [B, 3, S, S].
        share: the square's side, share of the frame's.
    """
    change = (second - first).abs().mean(1, keepdim=True)
    side = max(1, round(share * change.shape[2]))
    step = max(1, (change.shape[2] - side) // (_PLACES_ASIDE - 1))
    sums = F.avg_pool2d(change, side, stride=step)[:, 0]  # B × places × places
    best = sums.flatten(1).argmax(1)
    corner = torch.stack([best % sums.shape[2], best // sums.shape[2]], dim=1) * step
    return (corner + side / 2) / change.shape[2]


def track(frames: tuple[Tensor, ...], start: Tensor, share: float) -> Tensor:
    """Follow squares from the first to the last frame: their middles there, [B, 2].

    In each frame a correlation filter of the pixels around a square looks for it in the next.

    Args:
        frames: of [B, 3, S, S].
        start: middles in the first, x and y in [0, 1], [B, 2].
        share: the squares' side.
    """
    window = min(1.0, _WINDOW * share)
    label = gaussian(_WINDOW_PIXELS, _WINDOW_PIXELS, _WINDOW_PIXELS / 16).to(start)
    fade = torch.hann_window(_WINDOW_PIXELS, periodic=False).to(start)
    middle = start
    for frame, following in itertools.pairwise(frames):
        around = [cut_out(of, middle, window, _WINDOW_PIXELS) for of in (frame, following)]
        ours, theirs = (
            (of - of.mean((2, 3), keepdim=True)) * (fade[:, None] * fade) for of in around
        )
        found = response(ours, label, theirs, _REGULARIZATION, mean=True)
        peak = found.flatten(1).argmax(1)
        moved = torch.stack([peak % _WINDOW_PIXELS, peak // _WINDOW_PIXELS], dim=1)
        moved = (moved + _WINDOW_PIXELS // 2) % _WINDOW_PIXELS - _WINDOW_PIXELS // 2
        middle = middle + moved * window / _WINDOW_PIXELS
        middle = middle.clamp(share / 2, 1 - share / 2)
    return middle


def cut_out(frames: Tensor, middles: Tensor, share: float, size: int) -> Tensor:
    """Cut squares out of frames [B, 3, S, S], mirrored at their edges: [B, 3, size, size].

    Args:
        frames: where from.
        middles: x and y in [0, 1], [B, 2].
        share: the squares' side, share of the frame's.
        size: pixels that they are scaled to.
    """
    scale = torch.eye(2).to(middles) * share
    theta = torch.cat([scale.expand(len(frames), 2, 2), (2 * middles - 1)[:, :, None]], dim=2)
    grid = F.affine_grid(theta.to(frames), [len(frames), 1, size, size], align_corners=False)
    return F.grid_sample(frames, grid, padding_mode="reflection", align_corners=False)
