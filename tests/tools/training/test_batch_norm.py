"""What is said where batch norm is given one row."""

import pytest
import torch
from torch import nn

from gdt import Batch
from tools.training.batch_norm import batch_norm_explained
from tools.training.finite import TrainingError


def test_one_row_is_explained_with_what_to_set() -> None:
    norm, batch = nn.BatchNorm1d(3), Batch((), 2, 5)
    with (
        pytest.raises(TrainingError, match=r"epoch 2 step 5: batch norm needs two rows, .* raise"),
        batch_norm_explained(batch, 1, 1),
    ):
        norm(torch.zeros(1, 3))
    with (
        pytest.raises(TrainingError, match=r"= 4 on 4 ranks .*or set trainer.sync_batch_norm$"),
        batch_norm_explained(batch, 4, 4),
    ):
        norm(torch.zeros(1, 3))


def test_other_errors_pass_and_so_do_two_rows() -> None:
    with batch_norm_explained(Batch((), 0, 0), 2, 1):
        nn.BatchNorm1d(3)(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="else"), batch_norm_explained(Batch((), 0, 0), 2, 1):
        raise ValueError("something else")
