"""NCE against a transcription, and numbers that the authors of three methods' code gave."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gdt import LossOptions, mean_exponential, nce_loss

GOLDEN = json.loads((Path(__file__).parent / "nce_losses.json").read_text())


def test_equals_the_sums_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    s = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    c = torch.zeros(3, 5, dtype=torch.float64)
    c[:, 0] = 1
    z, m = 1.7, 4
    total = 0.0
    for row in s.tolist():
        h = [math.exp(x) / (math.exp(x) + m * z) for x in row]
        total -= math.log(h[0]) + sum(math.log(1 - x) for x in h[1:])
    assert nce_loss(s, c, torch.ones_like(c), z).item() == pytest.approx(total / 3, rel=1e-12)


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_equals_the_authors_code(case: dict[str, Any]) -> None:
    """Their P carries an epsilon of 1e-7, hence the tolerance."""
    queries = torch.tensor(case["queries"], dtype=torch.float64)
    keys = torch.tensor(case["keys"], dtype=torch.float64)  # Q x (1 + m) x D, the positive first
    unit = queries.clone().requires_grad_()
    logits = torch.einsum("qd,qkd->qk", unit, keys) / case["temperature"]
    contrast = torch.zeros_like(logits)
    contrast[:, 0] = 1
    loss = nce_loss(logits, contrast, torch.ones_like(contrast), case["mean_exp"])
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=1e-5)
    if "grad" in case:
        expected = torch.tensor(case["grad"], dtype=torch.float64)
        torch.testing.assert_close(unit.grad, expected, atol=1e-4, rtol=1e-4)


def test_z_is_the_mean_over_what_weighs() -> None:
    logits = torch.tensor([[0.0, math.log(3)], [math.log(5), 100.0]])
    weight = torch.tensor([[1.0, 1], [1, 0]])
    assert mean_exponential(logits, weight).item() == pytest.approx(3)
    assert mean_exponential(logits, weight * 0).item() == 1


def test_a_row_without_negatives_stays_finite() -> None:
    logits = F.normalize(torch.ones(2, 1), dim=1).requires_grad_()
    loss = nce_loss(logits, torch.ones(2, 1), torch.ones(2, 1), 1.0)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_it_is_a_sigmoid_objective() -> None:
    with pytest.raises(ValueError, match='got objective = "softmax"'):
        nce_loss(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), 1.0, LossOptions())
