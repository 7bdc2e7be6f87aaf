"""Tiles against the whole matrix: values and gradients in float64, and the memory they take."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import LossOptions, Plan, named_plan, plan_loss, tiled
from gdt.loss import TILED_FROM
from gdt.objectives import row_losses
from gdt.plan_catalog import NAMED_PLANS
from gdt.tiled import tiled_row_losses
from gdt.tiles import Tiles

ALL_OPTIONS = [
    LossOptions(),
    LossOptions(other_positives="out"),
    LossOptions(reduction="row"),
    LossOptions(other_positives="out", reduction="row"),
    LossOptions(stop_gradient_keys=True),
    LossOptions("sigmoid"),
    LossOptions("sigmoid", reduction="row"),
]

SOFT = Plan.from_tables(
    {
        "name": "i_reversal_i_shift",
        "time_shift": {"draws": 3, "contrast": [[1, 0.5, 0], [0.5, 1, 0.25], [0, 0, 1]]},
        "time_reversal": {"weight": [[1, 2], [0.5, 0]]},
    }
)


def whole_tables() -> Plan:
    """Soft positives between samples too, and a weight of its own for each pair."""
    generator = torch.Generator().manual_seed(5)
    c = torch.rand(8, 4, generator=generator, dtype=torch.float64).mul(3).round() / 3
    c[:, 2] = 0  # so that every row has a negative
    w = torch.rand(8, 4, generator=generator, dtype=torch.float64).mul(4).round() / 2
    tables = (tuple(map(tuple, table.tolist())) for table in (c, w))
    return Plan(named_plan("v_shift").factors, *tables)


PLANS = {**{name: named_plan(name) for name in NAMED_PLANS}, "soft": SOFT, "whole": whole_tables()}


def rows_of(plan: Plan, num_samples: int) -> tuple[Tensor, Tensor]:
    """Embeddings and codes, in an order as from several ranks, a few rows missing."""
    generator = torch.Generator().manual_seed(1)
    codes = plan.codes(torch.randint(-1, 40, (num_samples,), generator=generator).unique())
    codes = codes[torch.randperm(len(codes), generator=generator)][: len(codes) - 3]
    embeddings = torch.randn(len(codes), 5, generator=generator, dtype=torch.float64)
    return F.normalize(embeddings, dim=1), codes


def both_ways(
    plan: Plan, embeddings: Tensor, codes: Tensor, options: LossOptions, **keys: Any
) -> list[tuple[Tensor, ...]]:
    results: list[tuple[Tensor, ...]] = []
    for is_tiled in (False, True):
        rows = embeddings.clone().requires_grad_()
        rho = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
        loss = plan_loss(plan, rows, codes, rho, options, **keys, tiled=is_tiled)
        loss.backward()
        assert rows.grad is not None
        assert rho.grad is not None
        results.append((loss.detach(), rows.grad, rho.grad))
    return results


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tiled.TILE_SIZE, "cpu", 7)


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("options", ALL_OPTIONS, ids=str)
def test_tiles_equal_the_matrix(name: str, options: LossOptions) -> None:
    embeddings, codes = rows_of(PLANS[name], 12)
    dense, in_tiles = both_ways(PLANS[name], embeddings, codes, options)
    for expected, got in zip(dense, in_tiles, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


def test_a_learned_bias_goes_through_tiles() -> None:
    plan = named_plan("clip")
    embeddings, codes = rows_of(plan, 12)
    results = []
    for is_tiled in (False, True):
        bias = torch.tensor(-2.0, dtype=torch.float64, requires_grad=True)
        options = LossOptions("sigmoid")
        loss = plan_loss(plan, embeddings, codes, 0.1, options, bias, tiled=is_tiled)
        loss.backward()
        assert bias.grad is not None
        results.append((loss.detach(), bias.grad))
    torch.testing.assert_close(results[0], results[1], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("options", ALL_OPTIONS[:2] + ALL_OPTIONS[5:6], ids=str)
def test_rectangular_blocks_and_rows_that_nothing_weighs(options: LossOptions) -> None:
    plan = named_plan("v_shift")
    queries, query_codes = rows_of(plan, 6)
    keys, key_codes = rows_of(plan, 15)
    only_video = key_codes[:, 2] == 0  # leaves video queries without any pair
    pair = queries.requires_grad_(), keys[only_video].requires_grad_()
    results = []
    for is_tiled in (False, True):
        if is_tiled:
            losses = tiled_row_losses(
                plan, pair[0], query_codes, pair[1], key_codes[only_video], options, tile_size=4
            )
        else:
            codes = query_codes, key_codes[only_video]
            losses = row_losses(
                pair[0] @ pair[1].T, plan.contrast(*codes), plan.weight(*codes), options
            )
        pull = torch.arange(len(queries), dtype=torch.float64)
        gradients = torch.autograd.grad((losses.losses * pull).sum(), pair)
        results.append((*losses, *gradients))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


def test_no_rows_at_all() -> None:
    plan = named_plan("v_shift")
    embeddings = torch.zeros(0, 5, requires_grad=True)
    loss = plan_loss(plan, embeddings, torch.zeros(0, 3, dtype=torch.int64), 0.1, tiled=True)
    loss.backward()
    assert loss.item() == 0


def test_tiles_that_w_empties_are_left_out() -> None:
    plan = named_plan("cross_modal_baseline")
    codes = plan.codes(torch.arange(64))
    tiles = list(Tiles(plan, codes, codes, 16, torch.float32))
    assert len(tiles) == 32  # of 64: the halves within a modality are empty
    assert sum(tile.contrast is not None for tile in tiles) == 8  # where samples meet
    assert all(tile.weight == 1 for tile in tiles if tile.contrast is None)


def test_together_tiles_hold_every_pair_that_weighs() -> None:
    for plan in PLANS.values():
        _, codes = rows_of(plan, 9)
        tiles = Tiles(plan, codes, codes, 5, torch.float64)
        weight, contrast = (torch.zeros(len(codes), len(codes)).double() for _ in range(2))
        for tile in tiles:
            weight[tile.rows, tile.columns] = tile.weight
            if tile.contrast is not None:
                contrast[tile.rows, tile.columns] = tile.contrast
        codes = codes[tiles.row_order]
        assert torch.equal(weight, plan.weight(codes, codes))
        assert torch.equal(contrast * weight, plan.contrast(codes, codes) * weight)


def test_large_matrices_are_tiled_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = named_plan("cross_modal_baseline")
    codes = plan.codes(torch.arange(int(TILED_FROM**0.5) // 2))
    monkeypatch.setattr(Plan, "weight", None)  # which only the matrix asks for
    monkeypatch.setitem(tiled.TILE_SIZE, "cpu", 512)
    embeddings = F.normalize(torch.randn(len(codes), 4), dim=1)
    assert plan_loss(plan, embeddings, codes, 0.1).isfinite()
    with pytest.raises(TypeError):
        plan_loss(plan, embeddings[:-2], codes[:-2], 0.1)
