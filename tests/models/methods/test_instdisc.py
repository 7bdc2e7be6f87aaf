"""InstDisc equals its authors' numbers: losses, gradients, partition and bank over steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, Plan
from models.methods.instdisc import InstDisc, InstDiscOptions
from tests.models.conftest import ONE_VIEW
from tests.models.golden_numbers import close, golden, tensor


def step_of(method: InstDisc, x: Tensor, samples: list[int], drawn: Any) -> Tensor:
    """The loss of a step whose embeddings are x [B, D], and whose negatives were drawn so."""
    codes = torch.zeros(len(samples), len(method.plan.names), dtype=torch.int64)
    codes[:, 0] = torch.tensor(samples)
    method.towers.forward = lambda batch: (x, codes)  # type: ignore[method-assign]
    method.bank.draw = lambda num_rows, count: torch.tensor(drawn)  # type: ignore[method-assign]
    loss: Tensor = method(Batch((), 0, 0)).total
    return loss


@pytest.mark.parametrize("case", ["nce_bank_T0.07", "nce_bank_T0.2_Zfixed"])
def test_losses_gradients_and_bank_over_steps_equal_the_authors(
    case: str, build_small: Callable[..., Any]
) -> None:
    given, expected = golden("instdisc", case)
    method = build_small(
        "instdisc",
        ONE_VIEW,
        num_samples=given["n"],
        embedding_dim=len(given["memory0"][0]),
        num_negatives=given["K"],
        temperature=given["T"],
        bank_momentum=given["momentum"],
    ).double()
    method.bank.rows.copy_(tensor(given["memory0"]))
    method.contrast.mean_exp.fill_(max(0.0, given["Z0"] / given["n"]))
    for step, wanted in zip(given["steps"], expected["steps"], strict=True):
        x = tensor(step["x"]).requires_grad_()
        entries = torch.tensor(step["idx_with_positive_first"])
        assert entries[:, 0].tolist() == step["y"]
        loss = step_of(method, x, step["y"], entries[:, 1:].tolist())
        close(loss, wanted["loss"])
        loss.backward()
        assert x.grad is not None
        close(x.grad, wanted["grad_x"])
        assert (method.contrast.mean_exp * given["n"]).item() == pytest.approx(
            wanted["Z"], rel=1e-12
        )
        close(method.bank.rows[step["y"]], wanted["memory_rows_y_after"])
    close(method.bank.rows, expected["memory_final"])


def test_the_softmax_over_the_whole_bank_equals_the_authors(
    build_small: Callable[..., Any],
) -> None:
    given, expected = golden("instdisc", "full_softmax_bank")
    dim, n = len(given["memory0"][0]), len(given["memory0"])
    changes = {"embedding_dim": dim, "num_negatives": 0, "objective": "softmax"}
    changes |= {"temperature": given["T"], "bank_momentum": given["momentum"]}
    method = build_small("instdisc", ONE_VIEW, num_samples=n, **changes).double()
    method.bank.rows.copy_(tensor(given["memory0"]))
    x = tensor(given["x"]).requires_grad_()
    loss = step_of(method, x, given["y"], None)
    close(loss, expected["loss"])
    loss.backward()
    assert x.grad is not None
    close(x.grad, expected["grad_x"])
    close(method.bank.rows, expected["memory_final"])


def test_evaluation_leaves_bank_and_partition(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    method = build_small("instdisc", ONE_VIEW).eval()
    before = method.bank.rows.clone()
    assert method(make_batch(ONE_VIEW, [0, 1])).total.isfinite()
    assert torch.equal(method.bank.rows, before)
    assert method.contrast.mean_exp == 0


def test_what_cannot_be_meant_is_refused(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r'objective = nce, must be "softmax" without negatives'):
        InstDiscOptions(num_negatives=0)
    both = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["video", "audio"]},
        }
    )
    with pytest.raises(ValueError, match=r"InstDisc .*must name one modality; got video, audio"):
        build_small("instdisc", both)
