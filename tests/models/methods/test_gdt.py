"""GDT's forward: the paper's sums written out in loops, gradients, precision, and its errors."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, LossOptions, Plan, View, named_plan, plan_loss
from gdt.named_plans import NAMED_PLANS


def slow_shift_distinctive_loss(rows: list[tuple[int, int, int, Tensor]], rho: float) -> float:
    """Equation 1 for (sample, shift, modality, embedding) rows: cross-modal, shift distinctive."""
    total, count = 0.0, 0
    for sample, shift, modality, query in rows:
        keys = [row for row in rows if row[2] != modality]
        denominator = sum(math.exp(float(query @ key) / rho) for *_, key in keys)
        for key_sample, key_shift, _, key in keys:
            if (key_sample, key_shift) == (sample, shift):
                total -= math.log(math.exp(float(query @ key) / rho) / denominator)
                count += 1
    return total / count


def test_loss_equals_the_sums_of_the_paper(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    plan = named_plan("v_shift")
    method = build_small("gdt", plan).eval()
    batch = make_batch(plan, [11, 5, 8])
    rows = []
    for number, name in enumerate(plan.modalities):
        view = batch.view(name)
        values, codes = view.values, view.codes
        embeddings = method.embed(name, values).detach().double()
        for code, embedding in zip(codes, embeddings, strict=True):
            sample, shift = int(code[plan.column("sample")]), int(code[plan.column("time_shift")])
            rows.append((sample, shift, number, embedding))
    expected = slow_shift_distinctive_loss(rows, rho=0.07)
    assert method(batch).total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in NAMED_PLANS if "audio" in named_plan(name).modalities]
)
def test_gradient_reaches_every_parameter_under_every_plan(
    name: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    plan = named_plan(name)
    method = build_small("gdt", plan)
    loss = method(make_batch(plan, [3, 1, 2, 0])).total
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    loss.backward()
    for parameter_name, parameter in method.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_rows_may_come_in_any_order(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    plan = named_plan("v_reversal_v_shift")
    method = build_small("gdt", plan).eval()
    batch = make_batch(plan, [3, 1, 2])
    shuffled = tuple(view[torch.randperm(len(view))] for view in batch.views)
    expected = method(batch).total
    got = method(Batch(shuffled, batch.epoch, batch.step)).total
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_embeddings_have_length_one_and_features_leave_the_head_out(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    plan = named_plan("cross_modal_baseline")
    method = build_small("gdt", plan).eval()
    for view in make_batch(plan, [0, 1]).views:
        name, values = view.modality, view.values
        embeddings = method.embed(name, values)
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
        assert embeddings.shape == (2, 16)
        assert method.features(name, values).shape == (2, 256)


def test_an_embedding_of_zero_gives_no_gradient(build_small: Callable[..., Any]) -> None:
    """A dead head's output has no direction: dividing by its length would give 1e12 for one."""
    method = build_small("gdt", named_plan("cross_modal_baseline"))
    projected = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]], requires_grad=True)
    method.towers.projection = lambda modality, values: projected
    embedding = method.embed("video", torch.zeros(2))
    torch.testing.assert_close(embedding[0], torch.tensor([1.0, 2.0, 2.0]) / 3)
    assert torch.equal(embedding[1], torch.zeros(3))
    (embedding * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert projected.grad is not None
    assert float(projected.grad[0].abs().max()) > 0
    assert torch.equal(projected.grad[1], torch.zeros(3))


@pytest.mark.parametrize("name", ["gdt", "simclr", "moco", "swav"])
def test_the_loss_is_float32_whatever_the_precision(
    name: str,
    make_batch: Callable[..., Batch],
    build_small: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same embeddings give the same loss to the last bit under autocast."""
    torch.manual_seed(0)
    plan = named_plan("simclr" if name != "gdt" else "v_shift")
    method = build_small(name, plan).eval()
    batch = make_batch(plan, [0, 1, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = method(batch).total
        embeddings = {m: method.embed(m, batch.view(m).values) for m in plan.modalities}
    assert mixed.dtype == torch.float32
    assert all(e.dtype == torch.float32 for e in embeddings.values())
    assert mixed.item() == pytest.approx(method(batch).total.item(), rel=0.1)

    monkeypatch.setattr(
        type(method.towers), "embed", lambda _self, m, values: embeddings[m][: len(values)]
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = method(batch).total
    assert torch.equal(mixed, method(batch).total)


def test_same_seed_same_method(build_small: Callable[..., Any]) -> None:
    plan = named_plan("moco")
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(build_small("moco", plan).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_only_the_plans_modalities_are_built(build_small: Callable[..., Any]) -> None:
    plan = named_plan("simclr")
    names = {name.split(".")[2] for name in build_small("gdt", plan).state_dict()}
    assert names == {"image"}


def test_errors_name_the_modality(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    plan = named_plan("cross_modal_baseline")
    method = build_small("gdt", plan)
    batch = make_batch(plan, [0, 1])
    with pytest.raises(ValueError, match=r"no encoder for 'image': .* video, audio"):
        method.embed("image", torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"no encoder for 'image'"):
        method.features("image", torch.zeros(1, 3, 32, 32))
    only_video = Batch((batch.view("video"),), epoch=2, step=7)
    with pytest.raises(ValueError, match=r"needs video, audio, .* epoch 2 step 7 has only video"):
        method(only_video)


@pytest.mark.parametrize(
    "method",
    ["simclr", "moco", "byol", "swav", "simsiam", "barlow_twins", "moco_v3", "dino", "pixpro"],
)
def test_view_methods_refuse_a_plan_without_views(
    method: str, build_small: Callable[..., Any]
) -> None:
    plan = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
        }
    )
    with pytest.raises(ValueError, match=r"needs \[plan.augmentation\] .* draws = 2.*; got 1 draw"):
        build_small(method, plan)


@pytest.mark.parametrize("name", ["gdt", "simclr"])
def test_parts_of_a_batch_give_the_gradients_of_the_whole(
    name: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    """With the statistics of batch norm fixed, as it says where it is exact."""
    torch.manual_seed(0)
    plan = named_plan("v_shift" if name == "gdt" else "simclr")
    method = build_small(name, plan).double().eval()
    batch = make_batch(plan, [4, 1, 3, 9, 7])
    batch = Batch(tuple(View(v.modality, v.values.double(), v.codes) for v in batch.views), 0, 0)
    found = []
    for num_chunks in (1, 3):
        method.zero_grad()
        method.num_chunks = num_chunks
        loss = method(batch).total
        loss.backward()
        found.append((loss, [p.grad.clone() for p in method.parameters() if p.grad is not None]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-6)  # embeddings are float32


def test_another_objective_is_asked_for_by_its_name(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    plan = named_plan("v_shift")
    method = build_small("gdt", plan).eval()
    batch = make_batch(plan, [4, 1, 3])
    embeddings, codes = method.towers(batch)
    for options in (LossOptions(objective="reference"), LossOptions(objective="sigmoid")):
        method.loss = options
        torch.testing.assert_close(
            method(batch).total, plan_loss(plan, embeddings, codes, method.temperature, options)
        )
