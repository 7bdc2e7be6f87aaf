"""The authors' objective, against values and gradients of their code for all nine hypotheses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from gdt import LossOptions, Plan, named_plan, plan_loss
from gdt.plan_catalog import NAMED_PLANS
from gdt.reference import reference_loss

EXPECTED = json.loads((Path(__file__).parent / "reference_objective.json").read_text())
HYPOTHESES = dict(zip("123456789", NAMED_PLANS, strict=False))
RANKS, ITEMS = 2, 3


def rows_of(plan: Plan, names: list[str], rank: int) -> tuple[dict[str, Tensor], Tensor]:
    """One rank's features by their name, and their codes one name after the other."""
    features, codes = {}, []
    for name in names:
        features[name] = torch.tensor(EXPECTED["features"][name][rank], dtype=torch.float64)
        draws = {
            "modality": int(name[0] == "a"),
            "time_reversal": int("R" in name),
            "time_shift": int("2" in name),
        }
        samples = torch.arange(ITEMS) + ITEMS * rank
        columns = [samples if n == "sample" else samples * 0 + draws[n] for n in plan.names]
        codes.append(torch.stack(columns, dim=1))
    return features, torch.cat(codes)


def assert_is_expected(hypothesis: str, rank: int, loss: float, grad: dict[str, Any]) -> None:
    expected = EXPECTED["hypotheses"][hypothesis]
    assert loss == pytest.approx(expected["per_rank"][rank], abs=1e-9)
    for name, gradient in grad.items():
        right = torch.tensor(expected["grad"][rank][name], dtype=torch.float64)
        torch.testing.assert_close(gradient, right, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("hypothesis", "plan_name"), HYPOTHESES.items())
def test_equals_the_authors_code(hypothesis: str, plan_name: str) -> None:
    plan = named_plan(plan_name)
    names = list(EXPECTED["hypotheses"][hypothesis]["grad"][0])
    ranks = [rows_of(plan, names, rank) for rank in range(RANKS)]
    keys = torch.cat([torch.cat(list(features.values())) for features, _ in ranks])
    key_codes = torch.cat([codes for _, codes in ranks])
    for rank, (features, codes) in enumerate(ranks):
        own = {name: feature.requires_grad_() for name, feature in features.items()}
        is_same_rank = torch.arange(len(keys)) // len(codes) == rank
        loss = reference_loss(
            plan,
            torch.cat(list(own.values())),
            codes,
            keys,
            key_codes,
            is_same_rank,
            EXPECTED["temperature"],
        )
        loss.backward()
        assert_is_expected(hypothesis, rank, loss.item(), {n: t.grad for n, t in own.items()})


def one_rank(rank: int, folder: str, hypothesis: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    plan = named_plan(HYPOTHESES[hypothesis])
    features, codes = rows_of(plan, list(EXPECTED["hypotheses"][hypothesis]["grad"][0]), rank)
    own = {name: feature.requires_grad_() for name, feature in features.items()}
    embeddings = torch.cat(list(own.values()))
    loss = plan_loss(plan, embeddings, codes, EXPECTED["temperature"], LossOptions("reference"))
    loss.backward()
    assert_is_expected(hypothesis, rank, loss.item(), {n: t.grad for n, t in own.items()})
    dist.destroy_process_group()


@pytest.mark.slow(seconds=20)
def test_equals_the_authors_code_over_two_processes(tmp_path: Path) -> None:
    spawn(one_rank, (str(tmp_path), "9"), nprocs=2)


def test_only_three_hypotheses_equal_the_papers_equation() -> None:
    """Two ranks as one: with one rank alone there are no others' keys to count."""
    equal = []
    for hypothesis, plan_name in HYPOTHESES.items():
        plan = named_plan(plan_name)
        codes = plan.codes(torch.arange(4))
        generator = torch.Generator().manual_seed(3)
        rows = F.normalize(torch.randn(len(codes), 5, generator=generator).double(), dim=1)
        same_rank = codes[:, 0] < 2
        theirs = reference_loss(
            plan, rows[same_rank], codes[same_rank], rows, codes, same_rank, 0.2
        )
        other = ~same_rank
        theirs = theirs + reference_loss(plan, rows[other], codes[other], rows, codes, other, 0.2)
        if theirs.item() / 2 == pytest.approx(plan_loss(plan, rows, codes, 0.2).item()):
            equal.append(hypothesis)
    assert equal == ["1", "2", "4"]


@pytest.mark.parametrize(
    "tables",
    [
        {"name": "simclr"},
        {"name": "v_shift", "time_shift": {"draws": 3}},
        {"name": "v_shift", "crop": {"relation": "invariant", "draws": 2}},
        {"name": "v_shift", "time_shift": {"contrast": [[1, 0.5], [0.5, 1]]}},
    ],
)
def test_other_plans_are_refused(tables: dict[str, Any]) -> None:
    plan = Plan.from_tables(tables)
    codes = plan.codes(torch.arange(2))
    with pytest.raises(ValueError, match="nine hypotheses"):
        plan_loss(plan, torch.ones(len(codes), 2), codes, 0.1, LossOptions("reference"))
