"""MAST: rebuild a colour channel of a frame that the encoder does not see, from the frames before.

Lai, Lu, Xie, "MAST: A Memory-Augmented Self-supervised Tracker", CVPR 2020, arXiv:2002.07793. One
of the channels a and b is left out of all frames; each cell of the last frame copies that channel
from the cells near it in the others, by attention.

Legend: B clips, T frames, R reference frames, h × w cells of a map, N = h·w, D embedding.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.frame_maps import check_count, check_frames
from models.towers import Towers, at_least_float32

_WHY = "MAST copies a channel of frames"
_SCALE = 20  # of the channels, in the loss


@dataclass(frozen=True)
class MASTOptions(MethodOptions):
    """`[method]`: a colour channel of a frame, copied from the frames before it.

    Attributes:
        name: "mast".
        embedding_dim: length of a cell's embedding.
        radius: cells up, down, left and right of a cell's own place that it may copy from.
    """

    name: Literal["mast"] = "mast"
    embedding_dim: int = 64
    radius: int = 6

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim", "radius")


class MAST(Method):
    """An encoder of frames that lack a channel, and a linear head for each cell.

    Raises:
        ValueError: a plan of other rows than video, or an encoder that mixes frames.
    """

    options_type = MASTOptions
    needs = Needs(1, 1, positives=False, lab=True, why=_WHY)

    def __init__(self, options: MASTOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(
            setting.encoders, self.plan, lambda dim: nn.Linear(dim, options.embedding_dim)
        )
        check_frames(self.towers, self.plan, setting.encoders, _WHY)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch: smooth L1 of the channel that was left out.

        Raises:
            ValueError: clips of one frame.
        """
        (view,) = self.towers.views(batch)
        check_count(view.values.shape[2], 2, _WHY)
        channel = self.draw_channel()
        maps = self.towers.maps(view.modality, without_channel(view.values, channel))
        head = self.towers.heads[view.modality]
        cells = at_least_float32(head(maps.movedim(1, 4))).movedim(4, 2)  # B × T × D × h × w
        with torch.autocast(maps.device.type, enabled=False):
            colors = at_least_float32(view.values[:, channel]).unsqueeze(2)  # B × T × 1 × H × W
            copied = copied_values(cells[:, -1], cells[:, :-1], colors[:, :-1], self.options.radius)
            return Losses(global_mean(value_errors(copied, colors[:, -1]).flatten(1).mean(1)))

    def draw_channel(self) -> int:
        """Draw which channel of Lab is left out: 1 for a, 2 for b."""
        return 1 + int(torch.randint(2, ()))


def without_channel(values: Tensor, channel: int) -> Tensor:
    """Return Lab clips [B, 3, …] with 0 in a channel, and 3/2 of the others, as dropout has it."""
    kept = torch.full((3,), 1.5, dtype=values.dtype, device=values.device)
    kept[channel] = 0
    return values * kept.view(1, 3, *(1 for _ in values.shape[2:]))


def copied_values(target: Tensor, references: Tensor, values: Tensor, radius: int) -> Tensor:
    """Return what each target cell copies, [B, c, h, w].

    One softmax of dot products over the windows in all references. Places beyond the border take
    part, as in the authors' code: with a product of 0, and the value 0.

    Args:
        target: [B, D, h, w].
        references: [B, R, D, h, w].
        values: [B, R, c, H, W]; every (H / h)-th row and (W / w)-th column is copied from.
        radius: of the square window.
    """
    height, width = target.shape[2:]
    steps = values.shape[3] // height, values.shape[4] // width
    there = values[..., :: steps[0], :: steps[1]].flatten(3)  # B × R × c × N
    scores = torch.einsum("bdn,brdm->bnrm", target.flatten(2), references.flatten(3))
    near = in_window(height, width, radius).to(target.device)  # N × N
    scores = scores.masked_fill(~near[:, None], -torch.inf).flatten(2)  # B × N × R·N
    beyond = (references.shape[1] * ((2 * radius + 1) ** 2 - near.sum(1))).to(scores).log()  # N
    every = torch.cat([scores, beyond[:, None].expand(len(scores), -1, 1)], dim=2)
    weights = every.softmax(2)[..., :-1].unflatten(2, (references.shape[1], -1))
    copied = torch.einsum("bnrm,brcm->bcn", weights, there)
    return copied.view(*copied.shape[:2], height, width)


def in_window(height: int, width: int, radius: int) -> Tensor:
    """Return which cells of a map lie in the square window around which, bool [N, N]."""
    rows, columns = torch.arange(height * width) // width, torch.arange(height * width) % width
    down, across = ((of[:, None] - of).abs() for of in (rows, columns))
    return torch.maximum(down, across) <= radius


def value_errors(copied: Tensor, values: Tensor) -> Tensor:
    """Return the smooth L1 of values [B, c, H, W] and copied ones [B, c, h, w], made as large."""
    fine = F.interpolate(copied, size=values.shape[2:], mode="bilinear", align_corners=False)
    return F.smooth_l1_loss(_SCALE * fine, _SCALE * values, reduction="none")
