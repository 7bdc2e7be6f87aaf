"""CPC on images: of the upper rows of patches tell which patches stand further below, among others.

van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
arXiv:1807.03748, §3.2. The authors gave no code: the context is a stack of residual blocks whose
convolutions see a row and those above it, and the score is that of CPC on sound, the mean over
channels of prediction × patch.

    g × g patches ─ encoder ─► z [B, g, g, D] ─ context ─► c [B, g, g, C] ─ predictor k ─► z below

Legend: B images, g rows and columns of patches, K steps, D and C channels of z and c.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, View, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class CPCImageOptions(MethodOptions):
    """`[method]`: a prediction of patches of lower rows, among all patches of the batch.

    Attributes:
        name: "cpc_image".
        first_step: the nearest row that is predicted, so many below; nearer patches overlap.
        num_steps: K, how many rows from there on; each has a predictor.
        context_dim: C.
        context_blocks: of the context, each of which sees one row more.
    """

    name: Literal["cpc_image"] = "cpc_image"
    first_step: int = 2
    num_steps: int = 4
    context_dim: int = 256
    context_blocks: int = 5

    def __post_init__(self) -> None:
        self._check_counts("first_step", "num_steps", "context_dim", "context_blocks")

    @property
    def steps(self) -> range:
        """How many rows below each predicted one stands."""
        return range(self.first_step, self.first_step + self.num_steps)


class CPCImage(Method):
    """An encoder of patches, a context over the rows above, and a predictor for each step."""

    options_type = CPCImageOptions
    needs = Needs(positives=False, one_modality=True, why="CPC predicts the patches of a picture")

    def __init__(self, options: CPCImageOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        dim = self.towers.encoder(self.plan.modalities[0]).embedding_dim
        self.context = nn.Sequential(
            nn.Conv2d(dim, options.context_dim, kernel_size=1),
            *(RowsAbove(options.context_dim) for _ in range(options.context_blocks)),
        )
        self.predictors = nn.ModuleList(
            nn.Conv2d(options.context_dim, dim, kernel_size=1, bias=False) for _ in options.steps
        )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, summed over steps, and how often the right patch was found.

        Raises:
            ValueError: rows that are not cut into patches, or into too few.
        """
        patches = torch.cat([self.patches(view) for view in self.towers.views(batch)])
        context = self.context(patches.permute(0, 3, 1, 2))  # B × C × g × g
        losses, accuracies = [], []
        for step, predictor in zip(self.options.steps, self.predictors, strict=True):
            predicted = predictor(context[:, :, :-step]).permute(0, 2, 3, 1)  # B × g−k × g × D
            with torch.autocast(patches.device.type, enabled=False):
                loss, accuracy = patch_losses(at_least_float32(predicted), patches, step)
            losses.append(loss)
            accuracies.append(accuracy)
        total = global_mean(torch.stack(losses).sum(dim=0))
        return Losses(total, {"accuracy": torch.stack(accuracies).mean()})

    def patches(self, view: View) -> Tensor:
        """Encode the patches of rows [B, g·g, 3, S, S]: [B, g, g, D].

        Raises:
            ValueError: rows that are not cut into patches, or into too few.
        """
        count = view.values.shape[1] if view.values.ndim == 5 else 1
        grid, last = isqrt(count), self.options.steps[-1]
        if grid <= last:
            raise ValueError(
                f"CPC predicts patches {last} rows below others, and a row has {grid} × {grid}: "
                f"set image_augment.grid = {last + 1} or more, or lower method.num_steps"
            )
        flat = self.towers.features(view.modality, view.values.flatten(0, 1))
        return flat.view(-1, grid, grid, flat.shape[1])


class RowsAbove(nn.Module):
    """A residual block that sees, of each place, its row and the one above: [B, C, g, g] → same.

    Args:
        dim: C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(dim, dim, kernel_size=1)
        self.across = nn.Conv2d(dim, dim, kernel_size=(1, 3), padding=(0, 1))
        self.down = nn.Conv2d(dim, dim, kernel_size=(2, 1))
        self.leave = nn.Conv2d(dim, dim, kernel_size=1)

    def forward(self, values: Tensor) -> Tensor:
        """Add what a row and the one above it say."""
        inner = self.across(self.enter(values).relu())
        below_nothing = F.pad(inner, (0, 0, 1, 0))
        added: Tensor = self.leave(self.down(below_nothing).relu())
        return values + added


def patch_losses(predicted: Tensor, patches: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Return how surprising the right patches are among all of the batch.

    Args:
        predicted: [B, g − k, g, D], of the patches k rows below.
        patches: [B, g, g, D].
        step: k.

    Returns:
        Each image's loss, [B], a mean over places; and the share of places where the right patch
        has the highest score, a scalar.
    """
    num_rows, grid, _, dim = patches.shape
    numbers = torch.arange(num_rows * grid * grid, device=patches.device)
    right = numbers.view(num_rows, grid, grid)[:, step:].flatten()
    scores = predicted.flatten(0, 2) @ patches.flatten(0, 2).T / dim  # places × all patches
    losses = F.cross_entropy(scores, right, reduction="none")
    accuracy = (scores.argmax(dim=1) == right).float().mean()
    return losses.view(num_rows, -1).mean(dim=1), accuracy
