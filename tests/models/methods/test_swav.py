"""SwAV equals its authors' numbers: assignment, loss, gradients, queue; over crops of two sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, Plan, View
from models.methods.swav import SwAV
from models.parts import sinkhorn
from tests.models.golden_numbers import close, golden, tensor


def plan_of(views: int) -> Plan:
    return Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["image"]},
            "augmentation": {"relation": "invariant", "draws": views},
        }
    )


@pytest.mark.parametrize("case", ["sinkhorn_eps0.05_it3", "sinkhorn_eps0.03_it5"])
def test_assignment_equals_the_authors(case: str) -> None:
    given, expected = golden("swav", case)
    assigned = sinkhorn(tensor(given["scores"]), given["epsilon"], given["iterations"])
    close(assigned, expected["q"])
    close(assigned.sum(1), [1.0] * len(assigned))


def test_scores_that_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match=r"scores up to 90 with epsilon = 0.05 overflow"):
        sinkhorn(torch.full((2, 3), 90.0), 0.05, 3)


@pytest.mark.parametrize(
    "case", ["loss_crops2_queue0", "loss_crops2_2_queue0", "loss_crops2_1_queue6"]
)
def test_losses_and_gradients_over_steps_equal_the_authors(
    case: str, build_small: Callable[..., Any]
) -> None:
    given, expected = golden("swav", case)
    prototypes = tensor(given["prototypes_raw"])
    method = build_small(
        "swav",
        plan_of(sum(given["nmb_crops"])),
        embedding_dim=prototypes.shape[1],
        num_prototypes=len(prototypes),
        queue_size=given["queue_length"],
        queue_from_epoch=0,
        frozen_prototype_steps=0,
    ).double()
    with torch.no_grad():
        method.prototypes.vectors.weight.copy_(prototypes)
    for number, (step, wanted) in enumerate(zip(given["steps"], expected["steps"], strict=True)):
        crops = [tensor(crop).requires_grad_() for crop in step["crops"]]
        loss = step_of(method, crops, number)
        close(loss, wanted["loss"])
        if "queue_after" in wanted:
            assert_same_rows(method.queues, wanted["queue_after"], filled=3 * (number + 1))
        method.zero_grad()
        loss.backward()
        if "grad_crops" not in wanted:  # given for the last step only
            continue
        for crop, gradient in zip(crops, wanted["grad_crops"], strict=True):
            assert crop.grad is not None
            close(crop.grad, gradient)
        grad = method.prototypes.vectors.weight.grad
        close(grad, wanted["grad_prototypes_normalised_weight"])


def assert_same_rows(queues: Any, wanted: list[Any], filled: int) -> None:
    """Each queue holds the authors' rows: theirs newest batch first and zeros, ours in a ring."""
    for queue, rows in zip(queues, wanted, strict=True):
        ours = queue.rows[queue.codes[:, 0] >= 0]
        theirs = tensor(rows)[: len(ours)]
        assert len(ours) == min(filled, len(queue))
        assert all((ours - row).abs().sum(1).min() < 1e-9 for row in theirs)


def step_of(method: SwAV, crops: list[Tensor], number: int) -> Tensor:
    """The loss of a step whose heads give these crops [B, D], view by view."""
    batch_size, samples = len(crops[0]), torch.arange(len(crops[0])) + number * len(crops[0])
    views = []
    for draw in range(len(crops)):
        codes = torch.zeros(batch_size, 3, dtype=torch.int64)
        codes[:, 0], codes[:, 2] = samples, draw
        views.append(View("image", torch.zeros(batch_size, 3, 8, 8), codes))
    embed = F.normalize(torch.cat(crops), dim=1)
    codes = torch.cat([view.codes for view in views])
    method.towers.forward = lambda batch: (embed, codes)  # type: ignore[method-assign]
    loss: Tensor = method(Batch(tuple(views), 0, number)).total
    return loss


def test_crops_of_two_sizes_train_every_parameter(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    plan = plan_of(4)
    method = build_small("swav", plan, frozen_prototype_steps=1)
    views = []
    for size, draws in ((32, (0, 1)), (16, (2, 3))):
        codes = plan.codes(torch.arange(3))
        codes = codes[torch.isin(codes[:, 2], torch.tensor(draws))]
        views.append(View("image", torch.randn(len(codes), 3, size, size), codes))
    method(Batch(tuple(views), 0, 0)).total.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    method.after_backward(1)
    assert method.prototypes.vectors.weight.grad is not None
    method.after_backward(0)  # one of the first steps
    assert method.prototypes.vectors.weight.grad is None


def test_more_assigned_views_than_views_are_refused(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"assigned_views = 3, and the plan draws 2 views"):
        build_small("swav", plan_of(2), assigned_views=3)
