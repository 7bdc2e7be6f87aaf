"""Barlow Twins equals its authors' numbers, and lightly's: correlations, loss and gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss import BarlowTwinsLoss

from gdt import Batch, named_plan
from models.methods.barlow_twins import cross_correlation
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")


@pytest.mark.parametrize("case", ["loss_lambda0.0051", "loss_lambda0.1"])
def test_loss_and_gradients_equal_the_authors(
    case: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    given, expected = golden("barlow_twins", case)
    views = [tensor(given[name]).requires_grad_() for name in ("z1", "z2")]
    close(cross_correlation(*views), expected["cross_correlation"])
    method = build_small("barlow_twins", PLAN, off_diagonal=given["lambda"])
    codes = PLAN.codes(torch.arange(given["B"]))
    draw = codes[:, PLAN.names.index("augmentation")]
    given_rows = iter([(views[number], codes[draw == number]) for number in (0, 1)])
    method.towers.project = lambda batch: next(given_rows)
    losses = method(make_batch(PLAN, range(given["B"])))
    close(losses.total, expected["loss"])
    close(losses.parts["on_diagonal"], expected["on_diag"])
    close(losses.parts["off_diagonal"], expected["off_diag"])
    losses.total.backward()
    for view, name in zip(views, ("grad_z1", "grad_z2"), strict=True):
        assert view.grad is not None
        close(view.grad, expected[name])
    close(BarlowTwinsLoss(lambda_param=given["lambda"])(*views), expected["loss"])


def test_a_step_trains_every_parameter(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("barlow_twins", PLAN)
    method(make_batch(PLAN, [0, 1, 2, 3])).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_each_modality_has_statistics_of_its_own(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    """Modalities around different means: together they would look correlated."""
    torch.manual_seed(0)
    tables = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["image", "audio"]},
        "augmentation": {"relation": "invariant", "draws": 2},
    }
    plan = type(PLAN).from_tables(tables)
    method = build_small("barlow_twins", plan).eval()
    batch = make_batch(plan, range(6))
    column = plan.names.index("augmentation")
    single = []
    for name in plan.modalities:
        rows = [
            method.towers.projection(name, batch.where(column, view).view(name).values)
            for view in (0, 1)
        ]
        single.append(BarlowTwinsLoss(lambda_param=0.0051)(*rows))
    torch.testing.assert_close(method(batch).total, torch.stack(single).mean())
