"""AVID and CMA equal their authors' numbers over steps; banks, noise and agreement."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch, named_plan
from models.methods.avid import AVIDOptions, BankPairs
from models.methods.cma import CMAOptions, agreeing
from models.parts import MemoryBank
from tests.models.conftest import SEEN_AND_HEARD, dataset_of
from tests.models.golden_numbers import close, golden, tensor

NAMES = {"v2a": "image_to_audio", "a2v": "audio_to_image"}
NAMES |= {"v2v": "image_to_image", "a2a": "audio_to_audio"}


def prepare(method: BankPairs, given: dict[str, Any]) -> None:
    for bank, name in zip(method.banks, ("memory_video", "memory_audio"), strict=True):
        cast(MemoryBank, bank).rows.copy_(tensor(given[name]))


def step_of(method: BankPairs, given: dict[str, Any], samples: Tensor) -> tuple[Any, list[Tensor]]:
    """The losses of a step with given rows and negatives, and the rows with their gradients."""
    inputs = [tensor(given[name]).requires_grad_() for name in ("video", "audio")]
    negatives = torch.tensor(given["negatives"])
    method.draw = lambda kept_out: negatives  # type: ignore[method-assign]
    video, audio = (F.normalize(rows, dim=1) for rows in inputs)
    losses = method.losses((video, audio), samples)
    losses.total.backward()
    method.update((video, audio), samples)
    return losses, inputs


@pytest.mark.parametrize("case", ["cross", "self", "joint"])
def test_avid_equals_its_authors_over_two_steps(case: str, build_small: Callable[..., Any]) -> None:
    given, expected = golden("avid", case)
    method = build_small(
        "avid",
        SEEN_AND_HEARD,
        num_samples=9,
        embedding_dim=4,
        temperature=given["temperature"],
        cross_weight=float(given["xModal_coeff"]),
        within_weight=float(given["wModal_coeff"]),
    ).double()
    prepare(method, given)
    samples = torch.tensor(given["y"])
    losses, inputs = step_of(method, given, samples)
    close(losses.total, expected["loss"])
    for short, value in expected["terms"].items():
        close(losses.parts[NAMES[short]], value)
    for rows, name in zip(inputs, ("grad_video", "grad_audio"), strict=True):
        assert rows.grad is not None
        close(rows.grad, expected[name])
    assert method.mean_exp.item() == pytest.approx(expected["Z"][0], rel=1e-11)
    for bank, name in zip(method.banks, ("video", "audio"), strict=True):
        close(bank.rows[samples], expected[f"memory_{name}_after"])
    second = given["second_step"]
    losses, _ = step_of(method, second, samples)
    close(losses.total, second["loss"])  # the same Z, other banks
    assert method.mean_exp.item() == pytest.approx(expected["Z"][0], rel=1e-11)


def test_cma_equals_its_authors(build_small: Callable[..., Any]) -> None:
    given, expected = golden("cma", "cma")
    method = build_small(
        "cma",
        SEEN_AND_HEARD,
        num_samples=9,
        embedding_dim=4,
        num_positives=given["pos_k"],
        num_within=given["num_negatives_within"],
    ).double()
    prepare(method, given)
    method.before_epoch(5, dataset_of(torch.zeros(0)))  # in epoch 0 the banks are filled
    assert method.positives.tolist() == expected["consensus_positives"]
    losses, inputs = step_of(method, given | expected, torch.tensor(given["y"]))
    close(losses.total, expected["loss"])
    for short, value in expected["terms"].items():
        close(losses.parts[NAMES[short.split("-")[1]]], value)
    for rows, name in zip(inputs, ("grad_video", "grad_audio"), strict=True):
        assert rows.grad is not None
        close(rows.grad, expected[name])


def test_negatives_are_all_but_what_is_kept_out(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method = build_small("avid", SEEN_AND_HEARD, num_samples=6, num_negatives=400)
    drawn = method.draw(torch.tensor([[0], [3], [5]]))
    assert [set(row) for row in drawn.tolist()] == [set(range(6)) - {n} for n in (0, 3, 5)]
    counts = torch.bincount(drawn[1], minlength=6)
    assert counts.max() < 2 * counts[counts > 0].min()
    drawn = method.draw(torch.tensor([[4, 1, 2], [0, 5, 1]]))
    assert [set(row) for row in drawn.tolist()] == [{0, 3, 5}, {2, 3, 4}]


def test_agreement_is_the_less_similar_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 6 samples has a twin in both; others are near in one modality only."""
    torch.manual_seed(0)
    monkeypatch.setattr("models.methods.cma._BLOCK", 4)
    twins = torch.eye(3).repeat_interleave(2, 0)
    one = F.normalize(twins + 0.01 * torch.randn(6, 3), dim=1)
    other = F.normalize(twins.roll(1, 1) + 0.01 * torch.randn(6, 3), dim=1)
    other[0] = other[5]  # alike by sound alone
    assert agreeing([one, other], 1)[2:].flatten().tolist() == [3, 2, 5, 4]


@pytest.mark.parametrize("name", ["avid", "cma"])
def test_a_step_trains_and_keeps_what_it_saw(
    name: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small(name, SEEN_AND_HEARD)
    method.before_epoch(5, dataset_of(torch.zeros(0)))
    batch = make_batch(SEEN_AND_HEARD, [3, 5, 8])
    before = [bank.rows.clone() for bank in method.banks]
    lengths = torch.cat(before).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths))
    method(batch).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    for bank, rows in zip(method.banks, before, strict=True):
        changed = (bank.rows != rows).any(dim=1)
        assert changed.nonzero().flatten().tolist() == [3, 5, 8]
    assert method.mean_exp > 0
    noise = method.mean_exp.item()
    method.eval()(batch)
    assert method.mean_exp.item() == noise
    assert torch.equal(method.banks[0].rows[0], before[0][0])


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"AVID compares two modalities .* got image and 2 rows"):
        build_small("avid", named_plan("simclr"))
    with pytest.raises(ValueError, match=r"cross_weight = 0.0, must be .* together with within_we"):
        AVIDOptions(cross_weight=0.0)
    with pytest.raises(ValueError, match=r"within = 65, must be at most num_negatives = 64"):
        CMAOptions(num_negatives=64, num_within=65)
    with pytest.raises(ValueError, match=r"num_positives = 8 of 9 samples leaves no negative"):
        build_small("cma", SEEN_AND_HEARD, num_samples=9, num_positives=8)


def test_cma_begins_with_what_its_encoders_find_alike(build_small: Callable[..., Any]) -> None:
    """Samples 2n and 2n + 1 look and sound alike: they are each other's first positives."""
    torch.manual_seed(0)
    method = build_small("cma", SEEN_AND_HEARD, num_samples=8, num_positives=1)
    method = method.double().eval()
    images, sounds = torch.randn(4, 3, 32, 32).double(), torch.randn(4, 1, 40, 33).double()
    twins = [rows.repeat_interleave(2, 0) for rows in (images, sounds)]
    drawn = method.banks[0].rows[6].clone()
    near = [rows + 0.01 * torch.randn_like(rows) for rows in twins]
    method.before_epoch(0, dataset_of(near[0], skipped=[6], sounds=near[1]))
    assert method.positives[:6, 0].tolist() == [1, 0, 3, 2, 5, 4]
    assert torch.equal(method.banks[0].rows[6], drawn)  # a skipped sample keeps what was drawn
    filled = method.banks[1].rows.clone()
    method.before_epoch(5, dataset_of(torch.zeros(0)))
    assert torch.equal(method.banks[1].rows, filled)
