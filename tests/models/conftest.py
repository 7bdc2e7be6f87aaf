"""Small random batches with the codes that a plan gives them, and small models."""

from collections.abc import Callable, Sequence

import pytest
import torch

from gdt import Batch, Modality, Plan
from models import ModelOptions

ROW_SHAPES = {"video": (3, 4, 32, 32), "audio": (1, 40, 33), "image": (3, 32, 32)}

MakeBatch = Callable[[Plan, Sequence[int]], Batch]


@pytest.fixture
def make_batch() -> MakeBatch:
    """Random values for every transformation of some samples, with all codes of the plan's grid."""

    def make(plan: Plan, samples: Sequence[int]) -> Batch:
        codes = plan.codes(torch.tensor(samples))
        column = plan.names.index("modality")
        modalities = {}
        for number, name in enumerate(plan.modalities):
            rows = codes[codes[:, column] == number]
            modalities[name] = Modality(torch.randn(len(rows), *ROW_SHAPES[name]), rows)
        return Batch(modalities, epoch=0, step=0)

    return make


@pytest.fixture
def small_options() -> dict[str, ModelOptions]:
    """Small encoders for each method, by the method's name."""
    return {
        method: ModelOptions(
            method=method,
            video="r2plus1d_small",
            audio="resnet9_small",
            image="resnet_small",
            hidden_dim=32,
            embedding_dim=16,
            queue_size=12,
            momentum=0.9,
        )
        for method in ("gdt", "simclr", "moco")
    }
