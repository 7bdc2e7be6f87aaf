"""SimCLR's loss, gradients and heads equal its authors' numbers and lightly's NT-Xent."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss import NTXentLoss
from torch import nn

from gdt import Batch, Plan, named_plan, plan_loss
from models.methods.simclr import SimCLROptions
from models.parts.heads import simclr_head
from tests.models.golden_numbers import close, golden, tensor


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
        if parameter.requires_grad:
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


@pytest.mark.parametrize("case", ["ntxent_T0.1", "ntxent_T0.5", "ntxent_T1.0"])
def test_loss_and_gradients_are_half_the_authors(case: str) -> None:
    """Their code adds both views' means; the paper, and ours, take the mean of all rows."""
    given, expected = golden("simclr_v1", case)
    plan = named_plan("simclr")
    views = [tensor(given[name]).requires_grad_() for name in ("z1", "z2")]
    codes = plan.codes(torch.arange(given["B"]))
    draw = codes[:, plan.column("augmentation")]
    rows = torch.cat([torch.nn.functional.normalize(view, dim=1) for view in views])
    loss = plan_loss(plan, rows, torch.cat([codes[draw == 0], codes[draw == 1]]), given["T"])
    close(loss, expected["loss_half"])
    (2 * loss).backward()
    for view, name in zip(views, ("grad_z1", "grad_z2"), strict=True):
        assert view.grad is not None
        close(view.grad, expected[name])


def test_the_head_of_v2_equals_the_authors_layer_by_layer(build_small: Callable[..., Any]) -> None:
    given, expected = golden("simclr_v2", "projection_head_train_mode")
    rows = tensor(given["x"]).requires_grad_()
    width, dim = rows.shape[1], len(given["kernels_in_out"][-1][0])
    method = build_small("simclr", named_plan("simclr"), head_layers=3)
    method.towers.encoders["image"] = nn.Identity()
    head = simclr_head(width, width, dim, 0.0, num_layers=3).double()
    method.towers.heads["image"] = head
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    norms = [layer for layer in head if isinstance(layer, nn.BatchNorm1d)]
    with torch.no_grad():
        for layer, kernel in zip(linear, given["kernels_in_out"], strict=True):
            layer.weight.copy_(tensor(kernel).T)
        for norm, scale in zip(norms, given["bn_gamma"], strict=True):
            norm.weight.copy_(tensor(scale))
        for norm, offset in zip(norms, given["bn_beta_hidden_only"], strict=False):
            norm.bias.copy_(tensor(offset))
    layers = expected["hiddens_by_ft_proj_selector"]
    for count in (0, 1, 2):
        method.feature_layers = count
        close(method.features("image", rows), layers[count])
    output = method.towers.projection("image", rows)
    close(output, layers[3])
    output.pow(3).sum().backward()
    assert rows.grad is not None
    close(rows.grad, expected["grad_x_of_sum_of_cubed_output"])
    assert not norms[-1].bias.requires_grad


def test_features_that_take_the_whole_head_are_refused() -> None:
    with pytest.raises(ValueError, match=r"feature_layers = 2, must be at least 0, less than head"):
        SimCLROptions(feature_layers=2)
