"""Predictors: on top of each modality's projection, what says the other view's.

Legend: N rows of one view over all modalities, D embedding.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gdt import Batch, Plan
from models.towers import Towers, at_least_float32


class Predictors(nn.ModuleDict):
    """A predictor for each modality of a plan, by its name.

    Args:
        plan: its modalities each get one.
        predictor: makes one.
    """

    def __init__(self, plan: Plan, predictor: Callable[[], nn.Module]) -> None:
        super().__init__({modality: predictor() for modality in plan.modalities})

    def predict(self, towers: Towers, batch: Batch) -> tuple[Tensor, Tensor]:
        """Project the rows of a batch, and predict from the projections: [N, D] each.

        Args:
            towers: give the projections.
            batch: rows of one view.
        """
        projected, predicted = [], []
        for view in towers.views(batch):
            projected.append(towers.projection(view.modality, view.values))
            predicted.append(at_least_float32(self[view.modality](projected[-1])))
        return torch.cat(projected), torch.cat(predicted)
