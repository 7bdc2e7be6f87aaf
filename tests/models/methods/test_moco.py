"""MoCo equals its authors' numbers over steps, and lightly's: loss, momentum update, queue."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightly.loss import NTXentLoss
from lightly.models.utils import update_momentum
from torch import nn

from gdt import Batch, View, named_plan
from models.methods import MoCo
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("moco")
SAMPLE, VIEW = PLAN.names.index("sample"), PLAN.names.index("augmentation")


@pytest.fixture
def moco(build_small: Callable[..., Any]) -> MoCo:
    torch.manual_seed(0)
    method = build_small("moco", PLAN)
    assert isinstance(method, MoCo)
    return method


def codes_of(samples: list[int]) -> torch.Tensor:
    codes = torch.zeros(len(samples), len(PLAN.names), dtype=torch.int64)
    codes[:, SAMPLE] = torch.tensor(samples)
    codes[:, VIEW] = 1
    return codes


def test_losses_and_queue_equal_lightlys_memory_bank(
    moco: MoCo, make_batch: Callable[..., Batch]
) -> None:
    """Five steps of different samples, the queue of 12 wrapping after three batches of 4."""
    twin = copy.deepcopy(moco)
    oracle = NTXentLoss(temperature=moco.temperature, memory_bank_size=(12, 16))
    oracle.memory_bank.bank = moco.queue.rows.clone()
    optimizers = [torch.optim.SGD(m.towers.parameters(), lr=0.05) for m in (moco, twin)]
    for step in range(5):
        batch = make_batch(PLAN, range(4 * step, 4 * step + 4))
        loss = moco(batch).total

        view = batch.view("image")

        values, codes = view.values, view.codes
        queries = twin.towers.heads["image"](
            twin.towers.encoders["image"](values[codes[:, VIEW] == 0])
        )
        update_momentum(twin.towers, twin.momentum.network, m=0.9)
        with torch.no_grad():
            keys = twin.momentum.network.heads["image"](
                twin.momentum.network.encoders["image"](values[codes[:, VIEW] == 1])
            )
        expected = oracle(queries, keys)

        torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
        for optimizer, step_loss in zip(optimizers, (loss, expected), strict=True):
            optimizer.zero_grad()
            step_loss.backward()
            optimizer.step()
        torch.testing.assert_close(moco.queue.rows, oracle.memory_bank.bank, rtol=1e-5, atol=1e-6)
        assert int(moco.queue.pointer) == int(oracle.memory_bank.bank_ptr)
        # The twins drift by rounding of their gradients; each step is compared from one start.
        twin.load_state_dict(moco.state_dict())
        oracle.memory_bank.bank = moco.queue.rows.clone()


def test_momentum_update_is_exact_and_comes_before_the_keys(
    moco: MoCo, make_batch: Callable[..., Batch]
) -> None:
    with torch.no_grad():
        for parameter in moco.towers.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    before = [p.clone() for p in moco.momentum.network.parameters()]
    batch = make_batch(PLAN, [0, 1, 2])
    loss = moco(batch).total
    for old, query, key in zip(
        before, moco.towers.parameters(), moco.momentum.network.parameters(), strict=True
    ):
        exact = 0.9 * old.double() + (1 - 0.9) * query.double()
        torch.testing.assert_close(key.double(), exact, rtol=0, atol=1e-7)
        assert not key.requires_grad
    view = batch.view("image")
    values, codes = view.values, view.codes
    with torch.no_grad():  # batch statistics in training: only the weights matter
        keys = moco.momentum.network.embed("image", values[codes[:, VIEW] == 1])
    torch.testing.assert_close(moco.queue.rows[:3], keys)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moco.towers.parameters())
    assert all(p.grad is None for p in moco.momentum.network.parameters())


def test_queue_wraps_where_the_batch_does_not_divide_it(moco: MoCo) -> None:
    """Against a plain list that is appended to and cut, 12 entries, batches of 5."""
    history = [(-1, row) for row in moco.queue.rows.clone()]
    for step in range(7):
        samples = list(range(5 * step, 5 * step + 5))
        keys = torch.nn.functional.normalize(torch.randn(5, 16), dim=1)
        moco.queue.put(keys, codes_of(samples))
        history = (history + list(zip(samples, keys, strict=True)))[-12:]
        oldest = int(moco.queue.pointer)
        assert oldest == 5 * (step + 1) % 12
        order = [(oldest + i) % 12 for i in range(12)]
        assert moco.queue.codes[order, SAMPLE].tolist() == [sample for sample, _ in history]
        assert torch.equal(moco.queue.rows[order], torch.stack([row for _, row in history]))


def test_more_keys_than_the_queue_holds_leave_the_last(moco: MoCo) -> None:
    keys = torch.nn.functional.normalize(torch.randn(30, 16), dim=1)
    moco.queue.put(keys, codes_of(list(range(30))))
    assert sorted(moco.queue.codes[:, SAMPLE].tolist()) == list(range(18, 30))


def test_new_queue_holds_unit_vectors_of_no_sample(moco: MoCo) -> None:
    torch.testing.assert_close(moco.queue.rows.norm(dim=1), torch.ones(12))
    assert (moco.queue.codes[:, SAMPLE] == -1).all()
    assert int(moco.queue.pointer) == 0


def test_an_entry_of_the_same_sample_counts_neither_way(
    moco: MoCo, make_batch: Callable[..., Batch]
) -> None:
    """The loss with such entries is the loss of a queue that never had them."""
    moco.eval().temperature = 1.0
    batch = make_batch(PLAN, [0, 1])
    view = batch.view("image")
    values, codes = view.values, view.codes
    is_query = codes[:, VIEW] == 0
    queries = moco.embed("image", values[is_query])
    keys = moco.momentum.network.embed("image", values[~is_query])
    moco.queue.codes.copy_(codes_of([0, 1, *range(2, 12)]))

    expected = 0.0
    for i in (0, 1):
        negatives = moco.queue.rows[torch.arange(12) != i]  # its own sample left out
        logits = torch.cat([(queries[i] @ keys[i])[None], negatives @ queries[i]])
        expected -= logits.log_softmax(0)[0].item() / 2
    assert moco(batch).total.item() == pytest.approx(expected, rel=1e-5)


def test_other_keys_of_the_batch_are_no_negatives(
    moco: MoCo, make_batch: Callable[..., Batch]
) -> None:
    """As in algorithm 1: the loss of a batch is the mean of its samples' losses alone."""
    moco.eval().temperature = 1.0
    batch = make_batch(PLAN, [0, 1, 2])
    view = batch.view("image")
    values, codes = view.values, view.codes
    alone = []
    for sample in (0, 1, 2):
        rows = codes[:, SAMPLE] == sample
        alone.append(moco(Batch((View("image", values[rows], codes[rows]),), 0, 0)).total)
    torch.testing.assert_close(moco(batch).total, torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)


def test_evaluation_changes_nothing(moco: MoCo, make_batch: Callable[..., Batch]) -> None:
    before = copy.deepcopy(moco.state_dict())
    moco.eval()
    moco(make_batch(PLAN, [0, 1, 2]))
    assert all(torch.equal(before[key], value) for key, value in moco.state_dict().items())


def test_state_dict_round_trip_continues_bit_for_bit(
    moco: MoCo, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    batches = [make_batch(PLAN, range(5 * step, 5 * step + 5)) for step in range(4)]
    for batch in batches[:2]:
        moco(batch)
    state = copy.deepcopy(moco.state_dict())
    assert {"queue.rows", "queue.codes", "queue.pointer"} < set(state)
    assert any(key.startswith("momentum.network.") for key in state)
    torch.manual_seed(99)
    resumed = build_small("moco", PLAN)
    assert isinstance(resumed, MoCo)
    resumed.load_state_dict(state)
    for batch in batches[2:]:
        assert torch.equal(resumed(batch).total, moco(batch).total)
    assert torch.equal(resumed.queue.rows, moco.queue.rows)
    assert torch.equal(resumed.queue.codes, moco.queue.codes)


def test_a_query_and_its_key_share_no_batch_statistics(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    """Shuffling BN by hand: two groups of queries in order, two of keys as shuffled."""
    torch.manual_seed(0)
    moco = build_small("moco", PLAN, batch_norm_groups=2, momentum=0.0)
    assert isinstance(moco, MoCo)
    batch = make_batch(PLAN, range(8))
    view = batch.view("image")
    values, codes = view.values, view.codes
    queries, keys = (values[codes[:, VIEW] == view] for view in (0, 1))
    torch.manual_seed(1)
    order = torch.randperm(8)
    twin, queue = copy.deepcopy(moco.towers), moco.queue.rows.clone()
    with torch.no_grad():
        expected_queries = torch.cat([twin.embed("image", half) for half in queries.split(4)])
        expected_keys = torch.cat([twin.embed("image", half) for half in keys[order].split(4)])
    torch.manual_seed(1)
    loss = moco(batch).total
    torch.testing.assert_close(moco.queue.rows[:8], expected_keys)
    assert moco.queue.codes[:8, SAMPLE].tolist() == order.tolist()

    own_keys = expected_keys[order.argsort()]
    positive = (expected_queries * own_keys).sum(1, keepdim=True)
    logits = torch.cat([positive, expected_queries @ queue.T], dim=1) / 0.07
    torch.testing.assert_close(loss, -logits.log_softmax(1)[:, 0].mean(), rtol=1e-5, atol=1e-6)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in moco.towers.parameters())


def test_views_may_come_in_any_order(moco: MoCo, make_batch: Callable[..., Batch]) -> None:
    moco.eval().temperature = 1.0
    batch = make_batch(PLAN, [5, 2, 9])
    view = batch.view("image")
    values, codes = view.values, view.codes
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    shuffled = Batch((View("image", values[order], codes[order]),), 0, 0)
    torch.testing.assert_close(moco(shuffled).total, moco(batch).total, rtol=1e-5, atol=1e-6)


def linear(weight: Any) -> nn.Linear:
    weight = tensor(weight)
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=torch.float64)
    layer.weight.data.copy_(weight)
    return layer


@pytest.mark.parametrize("case", ["v1_T0.07_queue_4steps", "v2_T0.2_queue_2steps"])
def test_steps_equal_the_authors(case: str, build_small: Callable[..., Any]) -> None:
    given, expected = golden("moco_v1_v2", case)
    changes = {"queue_size": given["K"], "embedding_dim": given["dim"], "momentum": given["m"]}
    moco = build_small("moco", PLAN, temperature=given["T"], **changes).double()
    moco.queue.rows.copy_(tensor(given["queue0_rows"]))
    towers, copied = moco.towers, moco.momentum.network
    towers.encoders["image"] = copied.encoders["image"] = nn.Identity()
    copied.heads["image"] = linear(given["W_k0"])
    for number, (step, wanted) in enumerate(zip(given["steps"], expected["steps"], strict=True)):
        towers.heads["image"] = linear(step["W_q"])
        query, key = (tensor(step[name]).requires_grad_() for name in ("im_q", "im_k"))
        samples = torch.arange(len(query)) + number * len(query)
        codes = PLAN.codes(samples)
        views = [
            View("image", rows, codes[codes[:, VIEW] == view])
            for view, rows in enumerate((query, key))
        ]
        loss = moco(Batch(tuple(views), 0, number)).total
        close(loss, wanted["loss"])
        loss.backward()
        assert query.grad is not None
        close(query.grad, wanted["grad_im_q"])
        if "grad_W_q" in wanted:  # given for the first step only
            close(towers.heads["image"].weight.grad, wanted["grad_W_q"])
        assert key.grad is None
        close(copied.heads["image"].weight, wanted["W_k_after_momentum"])
        if "queue_after" in wanted:  # of the first and the last
            close(moco.queue.rows, wanted["queue_after"])
        assert int(moco.queue.pointer) == wanted["ptr_after"]


def test_the_head_of_v1_is_one_linear_layer(build_small: Callable[..., Any]) -> None:
    head = build_small("moco", PLAN, head="linear").towers.heads["image"]
    (layer,) = [module for module in head if list(module.parameters())]
    assert (layer.in_features, layer.out_features) == (256, 16)
    assert layer.bias is not None
