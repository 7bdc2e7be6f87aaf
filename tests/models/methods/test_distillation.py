"""Distillation equals the formula's numbers; a student follows one teacher, and is a classifier."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models import Labels, Setting, build_method
from models.methods.distillation import Distillation, DistillationOptions, distillation_losses
from tests.models.conftest import ONE_VIEW, SMALL_ENCODERS, BrightnessTeacher, random_batch
from tests.models.golden_numbers import close, golden, tensor


@pytest.mark.parametrize("case", ["distillation_T1.0", "distillation_T0.1"])
def test_loss_and_gradient_equal_the_formulas(case: str) -> None:
    given, expected = golden("simclr_v2", case)
    logits = tensor(given["student_logits"]).requires_grad_()
    taught = tensor(given["teacher_logits"])
    loss = distillation_losses(logits, taught, given["temperature"]).mean()
    close(loss, expected["loss"])
    loss.backward()
    assert logits.grad is not None
    close(logits.grad, expected["grad_student_logits"])


def test_a_student_learns_what_the_teacher_says_of_the_same_rows(
    build_small: Callable[..., Any],
) -> None:
    torch.manual_seed(0)
    method = build_small("distillation", ONE_VIEW).eval()
    batch = random_batch(ONE_VIEW, [0, 1, 2, 3])
    values = batch.view("image").values
    taught = method.teacher("image", values)
    logits = method.towers.projection("image", values)
    expected = F.cross_entropy(logits / 0.5, F.softmax(taught / 0.5, dim=1))
    losses = method(batch)
    torch.testing.assert_close(losses.total, expected)
    agree = (logits.argmax(1) == taught.argmax(1)).float().mean()
    assert losses.parts["image_agreement"] == agree


def test_another_teacher_is_refused_in_the_middle_of_a_run(
    build_small: Callable[..., Any],
) -> None:
    method = build_small("distillation", ONE_VIEW)
    batch = random_batch(ONE_VIEW, [0, 1])
    method(batch)
    method(batch)
    assert method.state_dict()["taught_by"] == BrightnessTeacher.fingerprint
    method.teacher.fingerprint = 18
    with pytest.raises(ValueError, match=r"method.teacher has other weights than those that this"):
        method(batch)
    method.eval()(batch)


def test_a_student_that_is_only_evaluated_needs_no_teacher(
    build_small: Callable[..., Any],
) -> None:
    trained = build_small("distillation", ONE_VIEW)
    setting = Setting(ONE_VIEW, SMALL_ENCODERS, trained.facts, Labels({"even": 1, "odd": 1}))
    alone = build_method(DistillationOptions(dropout=0.2), setting)
    assert isinstance(alone, Distillation)
    alone.load_state_dict(trained.state_dict())
    values = torch.randn(2, 3, 32, 32)
    expected = trained.eval().towers.projection("image", values)
    torch.testing.assert_close(alone.eval().towers.projection("image", values), expected)
    with pytest.raises(ValueError, match="without its teacher can be evaluated, not trained"):
        alone(random_batch(ONE_VIEW, [0]))
