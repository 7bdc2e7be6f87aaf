"""CPC on images equals its formula, term by term; the context sees no row below."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, View
from models.methods.cpc_image import patch_losses
from tests.models.conftest import ONE_VIEW


def textures(num_rows: int, grid: int, size: int = 16) -> Tensor:
    """Pictures cut into patches [B, g·g, 3, S, S], each picture of its own colour and stripes."""
    colors = torch.randn(num_rows, 1, 3, 1, 1)
    stripes = torch.linspace(0, 6, size).sin().expand(num_rows, grid * grid, 3, size, size)
    return (
        colors
        + stripes * torch.randn(num_rows, 1, 1, 1, 1)
        + 0.05 * torch.randn(num_rows, grid * grid, 3, size, size)
    )


def batch_of(values: Tensor) -> Batch:
    codes = torch.zeros(len(values), 2, dtype=torch.int64)
    codes[:, 0] = torch.arange(len(values))
    return Batch((View("image", values, codes),), 0, 0)


def test_the_loss_is_the_formula() -> None:
    torch.manual_seed(0)
    patches = torch.randn(2, 4, 4, 3, dtype=torch.float64)
    predicted = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    losses, accuracy = patch_losses(predicted, patches, step=2)
    every = [patches[b, i, j] for b in range(2) for i in range(4) for j in range(4)]
    found = 0
    for b in range(2):
        terms = []
        for i in range(2):
            for j in range(4):
                scores = torch.stack([(predicted[b, i, j] * z).mean() for z in every])
                right = (predicted[b, i, j] * patches[b, i + 2, j]).mean()
                terms.append(scores.exp().sum().log() - right)
                found += int(bool(right == scores.max()))
        torch.testing.assert_close(losses[b], torch.stack(terms).mean())
    assert accuracy.item() == pytest.approx(found / 16)


def test_the_context_sees_rows_above_and_none_below(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    context = build_small("cpc_image", ONE_VIEW, context_blocks=4).double().context
    places = torch.randn(1, 256, 6, 6, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(context(places)[:, :, 3, 2].sum(), places)
    by_row = gradient[0].abs().sum(dim=(0, 2))
    assert by_row[:4].min() > 0
    assert not by_row[4:].any()
    assert gradient[0, :, 0].abs().sum(dim=0).min() > 0  # all columns of the top row


def test_patches_further_below_are_found(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small("cpc_image", ONE_VIEW)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    batch, losses = batch_of(textures(6, 4)), []
    for _ in range(25):
        found = method(batch)
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        losses.append(found.total.item())
    assert losses[-1] < losses[0] - 0.5  # of log 96 for each of two steps: the image is told
    assert found.parts["accuracy"] > 2 / 96
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    assert method.features("image", torch.randn(2, 3, 32, 32)).shape == (2, 256)  # whole ones


def test_refusals(build_small: Callable[..., Any]) -> None:
    method = build_small("cpc_image", ONE_VIEW)
    with pytest.raises(ValueError, match=r"patches 3 rows below .* has 3 × 3: set image_augment.g"):
        method(batch_of(textures(2, 3)))
    with pytest.raises(ValueError, match=r"has 1 × 1: set image_augment.grid = 4 or more"):
        method(batch_of(torch.zeros(2, 3, 32, 32)))
