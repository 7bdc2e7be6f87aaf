"""UDT: a correlation filter tracks forward and back again, and should end where it began.

Wang et al., "Unsupervised Deep Tracking", CVPR 2019, arXiv:1904.01828. The filter of one frame has
a closed form; its response in the next one says where the target went, and a filter of that place
has to lead back to the first frame's.

Legend: B clips, T frames, D features of a cell, h × w cells.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gdt import Batch, gather_with_gradients
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.frame_maps import check_frames, frame_maps
from models.towers import Towers, at_least_float32

_WHY = "UDT tracks through frames and back"
_LEAST_FRAMES = 3
_TARGET_SHARE = 1 / 3  # of the crop's side: what surrounds it is searched


@dataclass(frozen=True)
class UDTOptions(MethodOptions):
    """`[method]`: forward and backward tracking by correlation filters.

    Attributes:
        name: "udt".
        embedding_dim: channels that features are brought to before they are correlated; 0 takes
            them as they are, as the paper does.
        regularization: λ of the filter.
        label_width: standard deviation of the response that is wished for, share of the target.
        kept_share: share of a batch's clips that count; those of the largest errors are left out.
        form: "paper" weights clips by their motion and places by the label, "port" counts all
            alike, as the authors' PyTorch code does (there with larger sums under the same λ).
    """

    name: Literal["udt"] = "udt"
    embedding_dim: int = 0
    regularization: float = 1e-4
    label_width: float = 0.1
    kept_share: float = 0.8
    form: Literal["paper", "port"] = "paper"

    def __post_init__(self) -> None:
        self._check("embedding_dim", self.embedding_dim >= 0, "a count, or 0")
        self._check("kept_share", 0 < self.kept_share <= 1, "more than 0, at most 1")
        for key in ("regularization", "label_width"):
            self._check(key, getattr(self, key) > 0, "above 0")


class UDT(Method):
    """An encoder of frames, and where that is asked for a linear layer on its cells.

    Raises:
        ValueError: a plan of other rows than video, or an encoder that mixes frames.
    """

    options_type = UDTOptions
    needs = Needs(1, 1, positives=False, why=_WHY)

    def __init__(self, options: UDTOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        width = options.embedding_dim
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda dim: nn.Linear(dim, width) if width else nn.Identity(),
        )
        check_frames(self.towers, self.plan, setting.encoders, _WHY)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch.

        Raises:
            ValueError: clips of fewer than three frames.
        """
        (view,) = self.towers.views(batch)
        maps = frame_maps(self.towers, view, least_frames=_LEAST_FRAMES, why=_WHY)
        head = self.towers.heads[view.modality]
        cells = at_least_float32(head(maps.movedim(2, 4))).movedim(4, 2)  # B × T × D × h × w
        rows = torch.arange(len(cells), device=cells.device)
        template, *searched = (
            cells[rows, at] for at in self.draw_frames(len(view), cells.shape[1]).to(cells.device)
        )
        with torch.autocast(cells.device.type, enabled=False):
            errors, motion = self.tracked(template, searched[0], searched[1])
            loss = self.robust_mean(errors, motion)
        return Losses(loss)

    def tracked(self, template: Tensor, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Track from the template to the second frame and back.

        Args:
            template: [B, D, h, w], in whose middle lies what is tracked.
            first: of a later frame.
            second: of one that is later still.

        Returns:
            Errors of the response in the template, and motion on the way, both [B].
        """
        options, (height, width) = self.options, template.shape[2:]
        mean = options.form == "paper"

        def follow(of: Tensor, label: Tensor, to: Tensor) -> Tensor:
            return response(of, label, to, options.regularization, mean=mean)

        sigma = options.label_width * _TARGET_SHARE * math.sqrt(height * width)
        wished = gaussian(height, width, sigma).to(template)
        with torch.no_grad():
            there = follow(template, wished, first)
            further = follow(first, at_peak(wished, there), second)
            pseudo = at_peak(wished, further)
        back = follow(second, pseudo, template)
        errors = (back - wished).square()
        if options.form == "port":
            return errors.sum((1, 2)), torch.ones_like(errors[:, 0, 0])
        motion = ((there - wished).square() + (there - further).square()).sum((1, 2))
        return (wished.exp() * errors).sum((1, 2)), motion

    def robust_mean(self, errors: Tensor, motion: Tensor) -> Tensor:
        """Return the sum of the smaller errors, weighted by their motion, over all clips.

        Args:
            errors: [B].
            motion: [B], without a gradient.
        """
        both = torch.stack([errors, motion], dim=1)
        every, _ = gather_with_gradients(
            both, torch.zeros(len(both), 1, dtype=torch.int64).to(both.device)
        )
        errors, motion = every.unbind(1)  # of all ranks
        num_kept = self.num_kept(len(errors))
        kept = torch.zeros_like(motion)
        kept[errors.detach().argsort()[:num_kept]] = 1
        weights = kept
        if self.options.form == "paper":
            weights = kept * motion
            weights = weights * len(errors) / weights.sum().clamp_min(1e-12)
        return (weights * errors).sum() / len(errors)

    def num_kept(self, num_clips: int) -> int:
        """Return how many clips of a batch count."""
        if self.options.form == "port":
            return num_clips - round((1 - self.options.kept_share) * num_clips)
        return round(self.options.kept_share * num_clips)

    def draw_frames(self, num_rows: int, num_frames: int) -> Tensor:
        """Draw which frames are searched: int64 [3, B], the first frame, and two later in order."""
        drawn = torch.rand(num_rows, num_frames - 1).argsort(1)[:, :2].sort(1).values + 1
        return torch.cat([torch.zeros(num_rows, 1, dtype=torch.int64), drawn], dim=1).T


def response(
    features: Tensor, label: Tensor, searched: Tensor, regularization: float, *, mean: bool
) -> Tensor:
    """Return where a filter of a frame finds its target in another, [B, h, w].

    Args:
        features: [B, D, h, w], that the filter is of.
        label: the filter's response to them, [h, w] or [B, h, w].
        searched: [B, D, h, w].
        regularization: λ.
        mean: divide sums over channels by the number of all values, as the MATLAB code does.
    """
    scale = math.prod(features.shape[1:]) if mean else 1
    ours, theirs = torch.fft.fft2(features), torch.fft.fft2(searched)
    energy = ours.abs().square().sum(1) / scale + regularization
    filtered = (theirs * ours.conj()).sum(1) / scale * torch.fft.fft2(label) / energy
    found: Tensor = torch.fft.ifft2(filtered).real
    return found


def gaussian(height: int, width: int, sigma: float) -> Tensor:
    """Return a Gaussian whose peak, 1, is at [0, 0], and which wraps around: [h, w]."""
    down, across = ((torch.arange(size) + size // 2) % size - size // 2 for size in (height, width))
    squared = (down.square()[:, None] + across.square()).double()
    return (-0.5 * squared / sigma**2).exp()


def at_peak(label: Tensor, responses: Tensor) -> Tensor:
    """Move a label [h, w] to where each response [B, h, w] is greatest."""
    height, width = label.shape
    peaks = responses.flatten(1).argmax(1)
    rows = (torch.arange(height, device=label.device) - (peaks // width)[:, None]) % height
    columns = (torch.arange(width, device=label.device) - (peaks % width)[:, None]) % width
    return label[rows[:, :, None], columns[:, None, :]]
