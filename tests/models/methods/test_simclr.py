"""SimCLR's loss and gradients equal lightly's NT-Xent."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss import NTXentLoss

from gdt import Batch, Plan, named_plan


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_loss_and_gradients_equal_lightlys(
    temperature: float, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    plan = named_plan("simclr")
    method = build_small("simclr", plan)
    method.temperature = temperature
    batch = make_batch(plan, [42, 7, 19, 3])
    view = batch.view("image")
    values, codes = view.values, view.codes
    loss = method(batch).total
    loss.backward()
    gradients = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}

    method.zero_grad()
    projected = method.towers.heads["image"](method.towers.encoders["image"](values))
    draw = codes[:, plan.column("augmentation")]
    expected = NTXentLoss(temperature=temperature)(projected[draw == 0], projected[draw == 1])
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-5)


def test_three_views_have_two_positives_each(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    """A third view: the mean over (query, positive) pairs of -log softmax over all others."""
    torch.manual_seed(0)
    tables: dict[str, dict[str, Any]] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["image"]},
        "augmentation": {"relation": "invariant", "draws": 3},
    }
    plan = Plan.from_tables(tables)
    method = build_small("simclr", plan).eval()
    batch = make_batch(plan, [4, 9])
    view = batch.view("image")
    values, codes = view.values, view.codes
    z = method.embed("image", values)
    logits = (z @ z.T / 0.07).fill_diagonal_(-torch.inf)
    sample = codes[:, 0]
    positive = (sample[:, None] == sample) & ~torch.eye(len(z), dtype=torch.bool)
    expected = -logits.log_softmax(1)[positive].mean()
    torch.testing.assert_close(method(batch).total, expected, rtol=1e-5, atol=1e-6)
