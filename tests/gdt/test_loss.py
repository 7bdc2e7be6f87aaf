"""The paper's loss against the authors' numbers, a transcription of the formula, closed forms."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gdt import LossOptions, contrastive_loss, named_plan, normalize, plan_loss

OFFICIAL = json.loads((Path(__file__).parent / "official_losses.json").read_text())


def unit_vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def loss_by_the_formula(
    queries: torch.Tensor, keys: torch.Tensor, c: torch.Tensor, w: torch.Tensor, rho: float
) -> float:
    total, norm = 0.0, 0.0
    for i in range(len(queries)):
        similarity = [math.exp(float(queries[i] @ key) / rho) for key in keys]
        denominator = sum(float(w[i, k]) * similarity[k] for k in range(len(keys)))
        for j in range(len(keys)):
            cw = float(c[i, j] * w[i, j])
            if cw:
                total -= cw * math.log(similarity[j] / denominator)
                norm += cw
    return total / norm


@pytest.mark.parametrize(
    ("hypothesis", "plan_name", "names"),
    [
        ("1", "cross_modal_baseline", {"v": (0, 0), "a": (1, 0)}),
        ("2", "v_reversal", {"v": (0, 0), "a": (1, 0), "vR": (0, 1), "aR": (1, 1)}),
    ],
)
def test_equals_the_reference_implementation(
    hypothesis: str, plan_name: str, names: dict[str, tuple[int, int]]
) -> None:
    """Values to 1e-9, and each rank's gradient of its own loss with keys detached."""
    plan = named_plan(plan_name)
    expected = OFFICIAL["hypotheses"][hypothesis]
    num_ranks, num_items = OFFICIAL["ranks"], OFFICIAL["items_per_rank"]

    def codes(rank: int, modality: int, reversal: int) -> torch.Tensor:
        columns = {"modality": modality, "time_reversal": reversal}
        samples = torch.arange(num_items) + rank * num_items
        return torch.stack(
            [
                samples if name == "sample" else torch.full_like(samples, columns[name])
                for name in plan.names
            ],
            dim=1,
        )

    features = {
        name: torch.tensor(OFFICIAL["features"][name], dtype=torch.float64) for name in names
    }
    ranks = range(num_ranks)
    keys = torch.cat([features[name][rank] for rank in ranks for name in names])
    key_codes = torch.cat([codes(rank, *names[name]) for rank in ranks for name in names])
    losses = []
    for rank in ranks:
        own = {name: features[name][rank].clone().requires_grad_() for name in names}
        own_codes = torch.cat([codes(rank, *names[name]) for name in names])
        loss = contrastive_loss(
            torch.cat(list(own.values())),
            keys,
            plan.contrast(own_codes, key_codes),
            plan.weight(own_codes, key_codes),
            OFFICIAL["temperature"],
        )
        loss.backward()
        assert loss.item() == pytest.approx(expected["per_rank"][rank], abs=1e-9)
        for name, tensor in own.items():
            gradient = torch.tensor(expected["grad"][rank][name], dtype=torch.float64)
            torch.testing.assert_close(tensor.grad, gradient, atol=1e-9, rtol=0)
        losses.append(loss.item())
    assert sum(losses) / num_ranks == pytest.approx(expected["loss"], abs=1e-9)


@pytest.mark.parametrize("plan_name", ["i_shift", "v_reversal_v_shift", "simclr"])
def test_equals_the_formula_for_several_positives(plan_name: str) -> None:
    plan = named_plan(plan_name)
    codes = plan.codes(torch.arange(3))
    embeddings = unit_vectors(len(codes), 5)
    c, w = plan.contrast(codes, codes), plan.weight(codes, codes)
    expected = loss_by_the_formula(embeddings, embeddings, c, w, 0.2)
    assert contrastive_loss(embeddings, embeddings, c, w, 0.2).item() == pytest.approx(expected)
    assert plan_loss(plan, embeddings, codes, 0.2).item() == pytest.approx(expected)


def test_equals_the_formula_weighted_and_rectangular() -> None:
    generator = torch.Generator().manual_seed(1)
    c = torch.rand(4, 7, generator=generator, dtype=torch.float64).round(decimals=1)
    w = torch.rand(4, 7, generator=generator, dtype=torch.float64) * (c < 0.8)
    queries, keys = unit_vectors(4, 6), unit_vectors(7, 6, seed=2)
    loss = contrastive_loss(queries, keys, c, w, 0.5)
    assert loss.item() == pytest.approx(loss_by_the_formula(queries, keys, c, w, 0.5))


def test_gradient_agrees_with_finite_differences() -> None:
    plan = named_plan("v_shift")
    codes = plan.codes(torch.arange(2))
    embeddings = unit_vectors(len(codes), 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda e: plan_loss(plan, e, codes, 0.3), embeddings)


def test_equal_embeddings_cost_the_log_of_the_number_of_keys() -> None:
    plan = named_plan("v_shift")
    codes = plan.codes(torch.arange(5))
    embeddings = unit_vectors(1, 8).repeat(len(codes), 1)
    # Each row sees the other modality of 5 samples × 2 shifts.
    assert plan_loss(plan, embeddings, codes, 0.07).item() == pytest.approx(math.log(10))


def test_a_row_without_any_pair_costs_nothing_and_moves_nothing() -> None:
    queries = unit_vectors(2, 4).requires_grad_()
    keys = unit_vectors(3, 4, seed=1)
    c = torch.tensor([[1.0, 0, 0], [1, 0, 0]])
    w = torch.tensor([[1.0, 1, 1], [0, 0, 0]])
    loss = contrastive_loss(queries, keys, c, w, 0.07)
    loss.backward()
    alone = contrastive_loss(queries[:1], keys, c[:1], w[:1], 0.07)
    assert loss.item() == pytest.approx(alone.item())
    assert queries.grad is not None
    assert queries.grad[1].eq(0).all()
    assert queries.grad.isfinite().all()


def test_no_positive_at_all_gives_zero_with_a_gradient() -> None:
    queries = unit_vectors(2, 4).requires_grad_()
    nothing = torch.zeros(2, 3)
    loss = contrastive_loss(queries, unit_vectors(3, 4), nothing, nothing + 1, 0.07)
    loss.backward()
    assert loss.item() == 0
    assert queries.grad is not None
    assert queries.grad.eq(0).all()


def test_half_precision_embeddings_are_compared_in_single_precision() -> None:
    embeddings = unit_vectors(4, 8).to(torch.bfloat16)
    c, w = torch.eye(4), torch.ones(4, 4)
    assert contrastive_loss(embeddings, embeddings, c, w, 0.07).dtype == torch.float32


def test_a_temperature_can_be_learned() -> None:
    plan = named_plan("i_shift")
    codes = plan.codes(torch.arange(2))
    embeddings = unit_vectors(len(codes), 3).requires_grad_()
    rho = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e, r: plan_loss(plan, e, codes, r), (embeddings, rho))


def test_stopped_keys_leave_the_gradient_of_the_queries() -> None:
    plan = named_plan("i_shift")
    codes = plan.codes(torch.arange(3))
    one, other = (unit_vectors(len(codes), 4).requires_grad_() for _ in range(2))
    stopped = plan_loss(plan, one, codes, 0.2, LossOptions(stop_gradient_keys=True))
    stopped.backward()
    c, w = plan.contrast(codes, codes), plan.weight(codes, codes)
    contrastive_loss(other, other.detach(), c, w, 0.2).backward()
    assert stopped.item() == pytest.approx(plan_loss(plan, one, codes, 0.2).item())
    torch.testing.assert_close(one.grad, other.grad)


def test_embeddings_of_no_length_stay_finite() -> None:
    plan = named_plan("i_shift")
    codes = plan.codes(torch.arange(3))
    raw = torch.randn(len(codes), 4, generator=torch.Generator().manual_seed(0))
    raw[2] = 0
    raw[5] = 1e-30
    raw.requires_grad_()
    unit = normalize(raw)
    loss = plan_loss(plan, unit, codes, 0.05)
    loss.backward()
    assert raw.grad is not None
    assert loss.isfinite()
    assert raw.grad.isfinite().all()
    assert raw.grad[2].eq(0).all()
    assert unit[2].eq(0).all()
    assert unit[5].eq(0).all()
    alive = [row for row in range(len(codes)) if row not in (2, 5)]
    torch.testing.assert_close(unit[alive], F.normalize(raw[alive], dim=1))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"objective": "hinge"}, "objective = 'hinge', allowed are softmax, sigmoid, reference"),
        ({"reduction": "sum"}, "reduction = 'sum', allowed are pair, row"),
        ({"objective": "sigmoid", "other_positives": "out"}, "a sigmoid has no denominator"),
        ({"objective": "reference", "reduction": "row"}, "fixes all other keys"),
    ],
)
def test_options_that_contradict_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossOptions(**keys)


def test_a_bias_is_of_the_sigmoid() -> None:
    plan = named_plan("simclr")
    codes = plan.codes(torch.arange(2))
    with pytest.raises(ValueError, match='it cancels in "softmax"'):
        plan_loss(plan, unit_vectors(4, 3), codes, 0.1, bias=0.5)
    one, options = torch.eye(2), LossOptions("reference")
    with pytest.raises(ValueError, match="follows from a plan: call plan_loss"):
        contrastive_loss(one, one, one, one, 0.1, options=options)
