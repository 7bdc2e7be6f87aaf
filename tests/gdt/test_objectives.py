"""The paper's relatives against double loops and the packages that people train with."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import LossOptions, Plan, contrastive_loss, named_plan, normalize, plan_loss

OUT = LossOptions(other_positives="out")
ROWS = LossOptions(reduction="row")
SIGMOID = LossOptions("sigmoid")
ALL_OPTIONS = [
    LossOptions(),
    OUT,
    ROWS,
    LossOptions(other_positives="out", reduction="row"),
    SIGMOID,
    LossOptions("sigmoid", reduction="row"),
]


def unit_vectors(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def by_double_loop(s: Tensor, c: Tensor, w: Tensor, options: LossOptions) -> float:
    rows, counts = [], []
    for i in range(len(s)):
        row = 0.0
        for j in range(s.shape[1]):
            if options.objective == "sigmoid":
                probability = 1 / (1 + math.exp(-s[i, j]))
                positive, negative = float(c[i, j]), max(0.0, 1 - float(c[i, j]))
                terms = positive * math.log(probability) + negative * math.log(1 - probability)
                row -= float(w[i, j]) * terms
            elif c[i, j] * w[i, j] > 0:
                denominator = sum(
                    float(w[i, k]) * math.exp(s[i, k])
                    for k in range(s.shape[1])
                    if options.other_positives == "in" or k == j or c[i, k] * w[i, k] == 0
                )
                row -= float(c[i, j] * w[i, j]) * math.log(math.exp(s[i, j]) / denominator)
        rows.append(row)
        counts.append(float((c[i] * w[i]).sum()))
    if options.reduction == "pair":
        return sum(rows) / sum(counts)
    means = [row / count for row, count in zip(rows, counts, strict=True) if count > 0]
    return sum(means) / len(means)


def random_relations(seed: int) -> tuple[Tensor, Tensor]:
    """Soft positives, weights, a row without positives, one without negatives, one without w."""
    generator = torch.Generator().manual_seed(seed)
    c = torch.rand(6, 7, generator=generator, dtype=torch.float64).mul(2).round() / 2
    w = torch.rand(6, 7, generator=generator, dtype=torch.float64).round(decimals=1)
    c[1] = 0
    c[2] = 1
    w[3] = 0
    return c, w


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_equals_the_double_loop(options: LossOptions) -> None:
    c, w = random_relations(1)
    queries, keys = unit_vectors(6, 4), unit_vectors(7, 4, seed=2)
    expected = by_double_loop(queries @ keys.T / 0.3, c, w, options)
    loss = contrastive_loss(queries, keys, c, w, 0.3, options=options)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_gradients_agree_with_finite_differences(options: LossOptions) -> None:
    c, w = random_relations(1)
    pair = unit_vectors(6, 3).requires_grad_(), unit_vectors(7, 3, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda q, k: contrastive_loss(q, k, c, w, 0.5, options=options), pair
    )


def value_and_gradient(
    loss: Callable[[Tensor], Tensor], embeddings: Tensor
) -> tuple[Tensor, Tensor]:
    embeddings = embeddings.clone().requires_grad_()
    value = loss(embeddings)
    value.backward()
    assert embeddings.grad is not None
    return value.detach(), embeddings.grad


def assert_same(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], embeddings: Tensor
) -> None:
    for mine, other in zip(
        value_and_gradient(ours, embeddings), value_and_gradient(theirs, embeddings), strict=True
    ):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)


def test_simclr_equals_lightly() -> None:
    from lightly.loss import NTXentLoss

    plan = named_plan("simclr")
    codes = plan.codes(torch.arange(5))  # view 0 and view 1 of each sample in turn
    assert_same(
        lambda e: plan_loss(plan, normalize(e), codes, 0.2),
        lambda e: NTXentLoss(temperature=0.2)(e[0::2], e[1::2]),
        unit_vectors(10, 6),
    )


def views_plan(views: int) -> Plan:
    return Plan.from_tables({"name": "simclr", "augmentation": {"draws": views}})


@pytest.mark.parametrize("views", [2, 3])
def test_several_positives_equal_pytorch_metric_learning(views: int) -> None:
    """SupConLoss takes a mean of rows; NTXentLoss leaves other positives out."""
    from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

    plan = views_plan(views)
    codes = plan.codes(torch.arange(4))
    embeddings = unit_vectors(len(codes), 6)
    for options, theirs in ((ROWS, SupConLoss(temperature=0.2)), (OUT, NTXentLoss(0.2))):
        assert_same(
            lambda e, o=options: plan_loss(plan, normalize(e), codes, 0.2, o),  # type: ignore[misc]
            lambda e, loss=theirs: loss(e, codes[:, 0]),  # type: ignore[misc]
            embeddings,
        )


def test_rows_of_different_numbers_of_positives_equal_pytorch_metric_learning() -> None:
    from pytorch_metric_learning.losses import SupConLoss

    plan = views_plan(3)
    codes = plan.codes(torch.arange(4))[1:-2]  # three, two and one view of a sample
    assert_same(
        lambda e: plan_loss(plan, normalize(e), codes, 0.2, ROWS),
        lambda e: SupConLoss(temperature=0.2)(e, codes[:, 0]),
        unit_vectors(len(codes), 6),
    )


def test_clip_equals_open_clip_with_its_learned_temperature() -> None:
    from open_clip.loss import ClipLoss

    plan = named_plan("clip")
    codes = plan.codes(torch.arange(6))
    embeddings = unit_vectors(len(codes), 5)
    gradients = []
    for is_ours in (True, False):
        scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
        rows = embeddings.clone().requires_grad_()
        if is_ours:
            loss = plan_loss(plan, rows, codes, 1 / scale)
        else:
            loss = ClipLoss()(rows[0::2], rows[1::2], scale)
        loss.backward()
        gradients.append((loss.detach(), rows.grad, scale.grad))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)


def test_sigmoid_equals_open_clips_siglip_with_its_learned_bias() -> None:
    from open_clip.loss import SigLipLoss

    plan = named_plan("clip")
    codes = plan.codes(torch.arange(6))
    embeddings = unit_vectors(len(codes), 5)
    gradients = []
    for is_ours in (True, False):
        scale = torch.tensor(10.0, dtype=torch.float64, requires_grad=True)
        bias = torch.tensor(-3.0, dtype=torch.float64, requires_grad=True)
        rows = embeddings.clone().requires_grad_()
        if is_ours:
            loss = plan_loss(plan, rows, codes, 1 / scale, SIGMOID, bias)
        else:
            loss = SigLipLoss()(rows[0::2], rows[1::2], scale, bias)
        loss.backward()
        gradients.append((loss.detach(), rows.grad, scale.grad, bias.grad))
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_no_positive_at_all_gives_zero_with_a_gradient(options: LossOptions) -> None:
    queries = unit_vectors(2, 4).requires_grad_()
    nothing = torch.zeros(2, 3)
    loss = contrastive_loss(
        queries, unit_vectors(3, 4), nothing, nothing + 1, 0.07, options=options
    )
    loss.backward()
    assert loss.item() == 0
    assert queries.grad is not None
    assert queries.grad.eq(0).all()
