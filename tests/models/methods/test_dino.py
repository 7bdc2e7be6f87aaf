"""DINO equals its authors' numbers: losses, gradients and centre over steps; frozen last layer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss import DINOLoss
from torch import nn

from gdt import Batch, Plan, View
from models.methods.dino import DINOOptions, LastLayer
from models.parts import MomentumSchedule
from tests.models.golden_numbers import close, golden, tensor


def plan_of(views: int) -> Plan:
    return Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["image"]},
            "augmentation": {"relation": "invariant", "draws": views},
        }
    )


def crops(plan: Plan, sizes: tuple[tuple[int, tuple[int, ...]], ...], samples: int = 3) -> Batch:
    views = []
    for size, draws in sizes:
        codes = plan.codes(torch.arange(samples))
        codes = codes[torch.isin(codes[:, 2], torch.tensor(draws))]
        views.append(View("image", torch.randn(len(codes), 3, size, size), codes))
    return Batch(tuple(views), 0, 0)


def test_losses_gradients_and_centre_over_steps_equal_the_authors(
    build_small: Callable[..., Any],
) -> None:
    given, expected = golden("dino", "dino_loss")
    center, views = tensor(given["center0"])[0], given["ncrops"]
    plan = plan_of(views)
    method = build_small(
        "dino",
        plan,
        num_outputs=len(center),
        embedding_dim=len(center),
        temperature=given["student_temp"],
        center_momentum=given["center_momentum"],
        first_teacher_temperature=given["warmup_teacher_temp"],
        teacher_temperature=given["teacher_temp"],
        teacher_warmup_epochs=given["warmup_teacher_temp_epochs"],
    ).double()
    method.center.copy_(center)
    method.last_layer = method.teacher_last_layer.network = nn.Identity()
    for number, (step, wanted) in enumerate(zip(given["steps"], expected["steps"], strict=True)):
        student, teacher = tensor(step["student"]).requires_grad_(), tensor(step["teacher"])
        count = len(student) // views
        codes = plan.codes(torch.arange(count))
        codes = codes[codes[:, 2].argsort(stable=True)]  # view by view, as the authors' chunks
        method.towers.forward = lambda batch, rows=student, codes=codes: (rows, codes)
        method.teacher.network.forward = lambda batch, rows=teacher, codes=codes: (
            rows,
            codes[: len(rows)],
        )
        batch = Batch((View("image", torch.zeros(len(codes), 1), codes),), step["epoch"], number)
        loss = method(batch).total
        close(loss, wanted["loss"])
        close(method.center, wanted["center_after"][0])
        loss.backward()
        assert student.grad is not None
        close(student.grad, wanted["grad_student"])
        temperature = method.options.teacher_temperature_at(step["epoch"])
        assert temperature == pytest.approx(wanted["teacher_temp"], abs=1e-12)


def test_the_loss_equals_lightlys(build_small: Callable[..., Any]) -> None:
    """Through the networks, over crops of two sizes, the first step."""
    torch.manual_seed(0)
    plan = plan_of(4)
    method = build_small("dino", plan)
    batch = crops(plan, ((32, (0, 1)), (16, (2, 3))))
    method.eval()  # lightly is given outputs of the same statistics
    student = method.last_layer(method.towers(batch)[0])
    large = Batch((batch.views[0],), 0, 0)
    teacher = method.teacher_last_layer.network(method.teacher.network(large)[0])
    draws = torch.cat([view.codes[:, 2] for view in batch.views])
    oracle = DINOLoss(
        output_dim=24, warmup_teacher_temp=0.04, teacher_temp=0.04, warmup_teacher_temp_epochs=1
    )
    expected = oracle(
        [teacher[draws[: len(teacher)] == view] for view in (0, 1)],
        [student[draws == view] for view in range(4)],
        epoch=0,
    )
    torch.testing.assert_close(method(batch).total, expected)


def test_the_last_layer_is_weight_normed_with_length_1() -> None:
    torch.manual_seed(0)
    layer = LastLayer(6, 4).double()
    oracle = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4, bias=False).double())
    weights: Any = oracle.parametrizations.weight
    weights.original0.data.fill_(1)
    weights.original1.data.copy_(layer.directions)
    rows = torch.randn(3, 6, dtype=torch.float64)
    close(layer(rows), oracle(rows).tolist())
    layer(rows).square().sum().backward()
    oracle(rows).square().sum().backward()
    assert layer.directions.grad is not None
    close(layer.directions.grad, weights.original1.grad.tolist())


def test_the_momentum_rises_as_the_authors_scheduler() -> None:
    given, expected = golden("dino", "cosine_scheduler")
    warm, steps = given["warmup_epochs"] * given["niter_per_ep"], len(expected["schedule"])
    schedule = MomentumSchedule(given["base"], rises=True, num_steps=steps - warm)
    cosine = [(1 - schedule.at(step)) for step in range(steps - warm)]
    assert cosine == pytest.approx([0.0] * len(cosine))  # from 1 to 1
    half = MomentumSchedule(given["final"], rises=True, num_steps=steps - warm)
    falls = [given["base"] + given["final"] - half.at(step) for step in range(steps - warm)]
    assert falls == pytest.approx(expected["schedule"][warm:], abs=1e-9)


def test_a_step_trains_the_student_and_moves_the_teacher(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    plan = plan_of(4)
    method = build_small("dino", plan, frozen_epochs=1)
    before = method.teacher_last_layer.network.directions.clone()
    method(crops(plan, ((32, (0, 1)), (16, (2, 3))))).total.backward()
    trained = [*method.towers.parameters(), method.last_layer.directions]
    assert all(p.grad is not None for p in trained)
    assert method.center.abs().sum() > 0
    method.after_backward(4)  # the first step of the second epoch
    assert method.last_layer.directions.grad is not None
    with torch.no_grad():
        method.last_layer.directions.add_(1)
    method.after_step(0)
    torch.testing.assert_close(method.teacher_last_layer.network.directions, before + 0.1)
    method.after_backward(3)
    assert method.last_layer.directions.grad is None


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"global_views = 3, and the plan draws 2 views"):
        build_small("dino", plan_of(2), global_views=3)
    with pytest.raises(ValueError, match=r"teacher_temperature = 0.0, must be above 0"):
        DINOOptions(teacher_temperature=0.0)
