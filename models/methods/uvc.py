"""UVC: find a patch of one frame in another, and paint each in the colours of the other.

Li et al., "Joint-task Self-supervised Learning for Temporal Correspondence", NeurIPS 2019,
arXiv:1909.11895. One affinity of two frames' cells says where a patch went, and which cell has the
colour of which: colours go to the other frame by it, and back by its transpose.

Legend: B pairs of frames, C channels, p × p cells of a patch's map, P = p·p, h × w of a frame's. A
box is left, top, right, bottom, in cells of the map, edges between cells.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.methods.colorization import gray
from models.parts.frame_maps import check_count, check_frames
from models.towers import Towers, at_least_float32

_WHY = "UVC paints a frame in the colours of another"
_CHROMA = 10  # what a and b count in the loss, beside L
_REVERSE = 0.1  # what the first frame counts, beside the second
_EPOCHS_WITHOUT_THRESHOLD = 2  # of those that localise; and the very first


@dataclass(frozen=True)
class UVCOptions(MethodOptions):
    """`[method]`: colours of two frames, and where in the second a patch of the first is.

    Attributes:
        name: "uvc".
        patch_share: side of a patch, share of the frame's.
        temperature: of the dot products between cells.
        warm_up_epochs: with patches of both frames, before patches are sought in whole frames.
        threshold: pairs whose colours are further off are left out, as occluded.
        window: cells of a side within which neighbours have to stay together.
        concentration_weight: of that.
        cycle_weight: of cells that have to come back; 0 as the authors run it.
    """

    name: Literal["uvc"] = "uvc"
    patch_share: float = 0.4
    temperature: float = 1.0
    warm_up_epochs: int = 10
    threshold: float = 2.5
    window: int = 8
    concentration_weight: float = 0.3
    cycle_weight: float = 0.0

    def __post_init__(self) -> None:
        self._check("patch_share", 0 < self.patch_share <= 1, "more than 0, at most 1")
        self._check_temperatures("temperature")
        self._check_counts("window")
        for key in ("warm_up_epochs", "threshold", "concentration_weight", "cycle_weight"):
            self._check(key, getattr(self, key) >= 0, "at least 0")


class UVC(Method):
    """An encoder of the lightness of frames, whose cells are compared as they are.

    Colours are the means of cells, in place of the authors' frozen colour network.

    Raises:
        ValueError: a plan of other rows than video, or an encoder that mixes frames.
    """

    options_type = UVCOptions
    beyond_encoder = "the encoder is given the lightness of Lab frames"
    needs = Needs(1, 1, positives=False, lab=True, why=_WHY)

    def __init__(self, options: UVCOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        check_frames(self.towers, self.plan, setting.encoders, _WHY)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch.

        Raises:
            ValueError: clips of one frame, or patches of fewer cells than a window.
        """
        (view,) = self.towers.views(batch)
        check_count(view.values.shape[2], 2, _WHY)
        first, second = self.draw_pairs(view.values)  # B × 3 × S × S
        warms_up = batch.epoch < self.options.warm_up_epochs
        patch = self.draw_patch(first)
        target = self.draw_patch(second) if warms_up else second
        (ours, our_colors), (theirs, their_colors) = self.cells(patch), self.cells(target)
        with torch.autocast(ours.device.type, enabled=False):
            if not warms_up:
                box = self.box_of(ours, theirs)
                theirs, their_colors = (
                    cropped(of, box, ours.shape[2]) for of in (theirs, their_colors)
                )
            affinity = self.affinity(ours, theirs)
            return self.losses(affinity, our_colors, their_colors, batch.epoch)

    def losses(
        self, affinity: Tensor, our_colors: Tensor, their_colors: Tensor, epoch: int
    ) -> Losses:
        """Return the losses of two maps of one size.

        Args:
            affinity: [B, P, P], of the first's cells and the second's.
            our_colors: [B, 3, p, p], of the first.
            their_colors: [B, 3, p, p], of the second.
            epoch: decides what counts.
        """
        options, side = self.options, our_colors.shape[2]
        localises = epoch - options.warm_up_epochs
        has_threshold = epoch > 0 and not 0 <= localises < _EPOCHS_WITHOUT_THRESHOLD
        painted = paint(affinity, our_colors, their_colors)
        errors = color_errors(their_colors, painted[0])
        errors = errors + _REVERSE * color_errors(our_colors, painted[1])
        if has_threshold:
            errors = errors.where(errors <= options.threshold, 0)
        parts = {"color": global_mean(errors)}
        total = parts["color"]
        if epoch > 0 and options.concentration_weight:
            parts["concentration"] = global_mean(scattered(affinity, side, options.window))
            total = total + options.concentration_weight * parts["concentration"]
        if localises >= 0 and options.cycle_weight:
            parts["cycle"] = global_mean(not_back(affinity, side))
            total = total + options.cycle_weight * parts["cycle"]
        return Losses(total, parts)

    def cells(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps [B, C, h, w] and mean colours [B, 3, h, w] of Lab pictures [B, 3, S, S]."""
        maps = self.maps("video", pictures[:, :, None])[:, :, 0]
        colors = F.adaptive_avg_pool2d(at_least_float32(pictures), (maps.shape[2], maps.shape[3]))
        return maps, colors

    def affinity(self, ours: Tensor, theirs: Tensor) -> Tensor:
        """Return dot products of the cells of maps [B, C, p, p] and [B, C, h, w]: [B, P, h·w]."""
        return ours.flatten(2).transpose(1, 2) @ theirs.flatten(2) / self.options.temperature

    def box_of(self, patch: Tensor, target: Tensor) -> Tensor:
        """Return the box of a patch's size around where its cells are in a frame, [B, 4].

        Args:
            patch: [B, C, p, p].
            target: [B, C, h, w].
        """
        height, width = target.shape[2:]
        chances = self.affinity(patch, target).softmax(2)  # B × P × h·w
        middles = (chances @ cell_grid(height, width).to(chances).T).mean(1)  # B × 2: x and y
        size, side = torch.tensor([width, height]).to(middles), patch.shape[2]
        start = (middles - side / 2).clamp_min(0)
        return torch.cat([start, torch.minimum(start + side, size)], dim=1)

    def maps(self, modality: str, values: Tensor) -> Tensor:
        """Encode Lab frames by their lightness, place by place; see `Towers.maps`."""
        return super().maps(modality, gray(values))

    def features(self, modality: str, values: Tensor) -> Tensor:
        """Encode Lab frames by their lightness; see `Towers.features`."""
        return super().features(modality, gray(values))

    def embed(self, modality: str, values: Tensor) -> Tensor:
        """Embed Lab frames by their lightness; see `Towers.embed`."""
        return super().embed(modality, gray(values))

    def draw_pairs(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Draw two frames of each clip [B, 3, T, S, S], in their order: two of [B, 3, S, S]."""
        drawn = torch.rand(len(values), values.shape[2]).argsort(1)[:, :2].sort(1).values
        rows = torch.arange(len(values), device=values.device)
        first, second = (values[rows, :, at] for at in drawn.T.to(values.device))
        return first, second

    def draw_patch(self, frames: Tensor) -> Tensor:
        """Cut a square at a drawn place out of each of frames [B, 3, S, S]: [B, 3, side, side]."""
        side = max(1, round(self.options.patch_share * frames.shape[2]))
        room = torch.tensor(frames.shape[2:]) - side
        top, left = (torch.rand(len(frames), 2) * (room + 1)).long().T.to(frames.device)
        offsets = torch.arange(side, device=frames.device)
        rows, columns = top[:, None] + offsets, left[:, None] + offsets  # B × side
        of = torch.arange(len(frames), device=frames.device)[:, None, None]
        return frames[of, :, rows[:, :, None], columns[:, None]].movedim(3, 1)


def paint(affinity: Tensor, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the second frame in the colours of the first, and the first in the second's.

    Args:
        affinity: [B, P, P].
        ours: [B, 3, p, p].
        theirs: [B, 3, p, p].
    """
    sources = affinity.softmax(
        1
    )  # for each cell of the second; its transpose is not made to sum to 1
    second = ours.flatten(2) @ sources
    first = theirs.flatten(2) @ sources.transpose(1, 2)
    return second.view_as(theirs), first.view_as(ours)


def color_errors(colors: Tensor, painted: Tensor) -> Tensor:
    """Return how far painted colours are off, [B], of Lab pictures [B, 3, p, p]."""
    off = (colors - painted).abs().mean((2, 3))  # B × 3
    return off[:, 0] + _CHROMA * (off[:, 1] + off[:, 2])


def scattered(affinity: Tensor, side: int, window: int) -> Tensor:
    """Return how far neighbours are sent apart, either way, [B].

    Args:
        affinity: [B, P, P].
        side: p.
        window: cells of a side that count as neighbours.

    Raises:
        ValueError: a window has more cells than a patch.
    """
    if window > side:
        raise ValueError(
            f"method.window = {window}, and patches have {side} cells a side: lower it, or take "
            "larger patches (method.patch_share, video_augment.size, encoders.map_stride)"
        )
    grid = (2 * cell_grid(side, side) / side - 1).to(affinity)  # 2 × P
    spread = []
    for way in (affinity, affinity.transpose(1, 2)):
        places = (grid @ way.softmax(1)).unflatten(2, (side, side))  # B × 2 × p × p
        windows = places.unfold(2, window, window).unfold(3, window, window)
        spread.append((windows - windows.mean((4, 5), keepdim=True)).square().flatten(1).mean(1))
    total: Tensor = spread[0] + spread[1]
    return total


def not_back(affinity: Tensor, side: int) -> Tensor:
    """Return how far cells of a patch are from themselves, there and back, [B], in cells."""
    grid = cell_grid(side, side).to(affinity)
    home = grid @ affinity.softmax(1) @ affinity.transpose(1, 2).softmax(1)
    off: Tensor = (home - grid).abs().mean((1, 2))
    return off


def cell_grid(height: int, width: int) -> Tensor:
    """Return x from 0 to w and y from 0 to h over a map's cells, row by row: float64 [2, h·w]."""
    y = torch.linspace(0, height, height, dtype=torch.float64)
    x = torch.linspace(0, width, width, dtype=torch.float64)
    return torch.stack([x.repeat(height), y.repeat_interleave(width)])


def cropped(maps: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Cut boxes [B, 4] out of maps [B, C, h, w]: [B, C, side, side], with a gradient by the box."""
    size = torch.tensor([maps.shape[3], maps.shape[2]]).to(boxes)  # w, h
    start, stop = boxes[:, :2] / size, boxes[:, 2:] / size  # shares
    scale, shift = stop - start, start + stop - 1  # of [-1, 1]²
    zero = torch.zeros_like(scale[:, 0])
    rows = [scale[:, 0], zero, shift[:, 0], zero, scale[:, 1], shift[:, 1]]
    grid = F.affine_grid(
        torch.stack(rows, dim=1).view(-1, 2, 3), [len(maps), 1, side, side], align_corners=True
    )
    return F.grid_sample(maps, grid, align_corners=True)
