"""MoCo v3 equals its authors' numbers: loss, gradients, two steps of the whole, schedule, ranks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, View, named_plan
from models.methods.moco_v3 import symmetric_term
from models.parts import MomentumSchedule
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")
VIEW = PLAN.names.index("augmentation")


def codes_of(view: int, count: int) -> Tensor:
    codes = PLAN.codes(torch.arange(count))
    return codes[codes[:, VIEW] == view]


def term(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    codes = [codes_of(view, len(queries)) for view in (0, 1)]
    return symmetric_term(PLAN, queries, codes[0], keys, codes[1], temperature)


@pytest.mark.parametrize("case", ["loss_T1.0", "loss_T0.2"])
def test_loss_and_gradients_equal_the_authors(case: str) -> None:
    given, expected = golden("moco_v3", case)
    q1, q2 = (tensor(given[name]).requires_grad_() for name in ("q1", "q2"))
    k1, k2 = (tensor(given[name]) for name in ("k1", "k2"))
    one, two = term(q1, k2, given["T"]), term(q2, k1, given["T"])
    close(one, expected["term_q1_k2"])
    close(two, expected["term_q2_k1"])
    (one + two).backward()
    for name, query in (("grad_q1", q1), ("grad_q2", q2)):
        assert query.grad is not None
        close(query.grad, expected[name])


def test_a_batch_is_the_mean_of_the_authors_ranks() -> None:
    given, expected = golden("moco_v3", "one_direction_world2")
    queries = tensor(given["q"]).requires_grad_()
    loss = term(queries, tensor(given["k"]), given["T"])
    close(loss, sum(rank["loss"] for rank in expected["per_rank"]) / 2)
    loss.backward()
    assert queries.grad is not None
    local = torch.cat([tensor(rank["grad_q_local"]) for rank in expected["per_rank"]])
    close(queries.grad, (local / 2).tolist())


def linear(weight: Any) -> nn.Linear:
    weight = tensor(weight)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    return layer


@pytest.mark.parametrize("case", ["model_steps_T1.0", "model_steps_T0.2"])
def test_two_steps_equal_the_authors(case: str, build_small: Callable[..., Any]) -> None:
    given, expected = golden("moco_v3", case)
    method = build_small("moco_v3", PLAN, temperature=given["T"])
    for towers, weight in (
        (method.towers, given["W_base"]),
        (method.momentum.network, given["W_momentum"]),
    ):
        towers.encoders["image"], towers.heads["image"] = nn.Identity(), linear(weight)
    method.predictors["image"] = linear(given["W_pred"])
    base, predictor = method.towers.heads["image"].weight, method.predictors["image"].weight
    copied = method.momentum.network.heads["image"].weight
    optimizer = torch.optim.SGD([base, predictor], lr=0.1)
    for number, (step, wanted) in enumerate(zip(given["steps"], expected["steps"], strict=True)):
        method.momentum.schedule = MomentumSchedule(step["m"])
        rows = [tensor(step[name]).requires_grad_() for name in ("x1", "x2")]
        views = [View("image", row, codes_of(view, len(row))) for view, row in enumerate(rows)]
        loss = method(Batch(tuple(views), 0, number)).total
        close(loss, wanted["loss"])
        close(copied, wanted["W_momentum_after"])
        optimizer.zero_grad()
        loss.backward()
        for row, name in zip(rows, ("grad_x1", "grad_x2"), strict=True):
            assert row.grad is not None
            close(row.grad, wanted[name])
        close(base.grad, wanted["grad_W_base"])
        close(predictor.grad, wanted["grad_W_pred"])
        optimizer.step()
        close(base, wanted["W_base_after_sgd_lr0.1"])
        close(predictor, wanted["W_pred_after_sgd_lr0.1"])


def test_the_momentum_rises_as_the_authors() -> None:
    given, expected = golden("moco_v3", "schedules")
    per_epoch = 4  # steps: the authors' fractions of an epoch are quarters
    schedule = MomentumSchedule(given["moco_m"], rises=True, num_steps=given["epochs"] * per_epoch)
    momenta = [schedule.at(round(epoch * per_epoch)) for epoch in given["epoch_fraction"]]
    assert momenta == pytest.approx(expected["m_cosine"], abs=1e-9)


def test_a_step_trains_a_vit_with_its_heads(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    changes = {"projector_layers": 3, "predictor_norm": True, "image": "vit_mini"}
    method = build_small("moco_v3", PLAN, **changes)
    method(make_batch(PLAN, [0, 1, 2, 3])).total.backward()
    trained = [*method.towers.parameters(), *method.predictors.parameters()]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert sum(isinstance(m, nn.Linear) for m in method.towers.heads["image"]) == 3
    assert [type(m) for m in method.predictors["image"]][-1] is nn.BatchNorm1d
