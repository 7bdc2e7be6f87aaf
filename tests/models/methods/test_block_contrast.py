"""The block loss equals literal loops over the paper's formula, and is at most the pairs' mean."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch, Plan
from models.methods.block_contrast import block_losses
from tests.models.golden_numbers import close, golden, tensor

PLAN = Plan.from_tables({"name": "simclr", "augmentation": {"relation": "invariant", "draws": 4}})


@pytest.mark.parametrize("case", ["curl_b3_k1", "curl_b2_k3"])
@pytest.mark.parametrize(("form", "key"), [("hinge", "hinge"), ("logistic", "logistic_log2")])
def test_losses_and_gradients_equal_the_formula(case: str, form: Any, key: str) -> None:
    given, expected = golden("curl", case)
    names = "x", "positives_B_b_d", "negatives_B_k_b_d"
    x, positives, negatives = (tensor(given[name]).requires_grad_() for name in names)
    loss = block_losses(x, positives.mean(1), negatives.mean(2), form).mean()
    close(loss, expected[key]["loss_block"])
    loss.backward()
    for rows, name in ((x, "x"), (positives, "positives"), (negatives, "negatives")):
        assert rows.grad is not None
        close(rows.grad, expected[key][f"grad_{name}"])
    pairs = [
        block_losses(x, positives[:, member], negatives[:, :, member], form).mean()
        for member in range(positives.shape[1])
    ]
    close(torch.stack(pairs).mean(), expected[key]["mean_of_pair_losses_over_members"])
    assert loss <= torch.stack(pairs).mean()


def test_the_method_is_its_loss_over_blocks_of_the_batch(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("block_contrast", PLAN, negative_blocks=2).eval()
    batch = make_batch(PLAN, [7, 3, 5])
    rows = method.towers.projection("image", batch.view("image").values).unflatten(0, (3, 4))
    views, blocks = rows[:, 0], rows[:, 1:].mean(dim=1)
    negatives = torch.stack([blocks[[1, 2]], blocks[[0, 2]], blocks[[0, 1]]])
    expected = block_losses(views, blocks, negatives, "logistic").mean()
    torch.testing.assert_close(method(batch).total, expected)


def test_more_blocks_than_other_samples_are_refused(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=r"negative_blocks = 4 of other samples, and a batch has"):
        build_small("block_contrast", PLAN, negative_blocks=4)
    method = build_small("block_contrast", PLAN, negative_blocks=2)
    with pytest.raises(ValueError, match=r"negative_blocks = 2 .* this batch has 2 samples"):
        method(make_batch(PLAN, [0, 1]))
