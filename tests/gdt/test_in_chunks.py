"""Chunks against one pass over all rows, in float64: gradients, dropout, running statistics."""

import copy
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from gdt import embed_in_chunks, named_plan, normalize, plan_loss

PLAN = named_plan("i_shift")


@dataclass(frozen=True)
class Rows:
    values: Tensor
    codes: Tensor


class Tower(nn.Module):
    """An encoder that counts the rows it has seen."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), *layers, nn.Linear(8, 4)).double()
        self.rows_seen = 0

    def forward(self, rows: Rows) -> tuple[Tensor, Tensor]:
        self.rows_seen += len(rows.values)
        return normalize(self.layers(rows.values)), rows.codes


def chunks_of(size: int) -> list[Rows]:
    codes = PLAN.codes(torch.arange(6))
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(len(codes), 6, generator=generator, dtype=torch.float64)
    return [Rows(*parts) for parts in zip(values.split(size), codes.split(size), strict=True)]


def gradients(tower: Tower, size: int) -> tuple[Tensor, list[Tensor]]:
    embeddings, codes = embed_in_chunks(tower, chunks_of(size))
    loss = plan_loss(PLAN, embeddings, codes, 0.1)
    loss.backward()
    return loss.detach(), [p.grad for p in tower.parameters() if p.grad is not None]


@pytest.mark.parametrize("size", [1, 5, 24])
def test_gradients_are_those_of_one_pass(size: int) -> None:
    torch.manual_seed(0)
    tower = Tower(nn.Tanh())
    whole = copy.deepcopy(tower)
    embeddings, codes = whole(chunks_of(24)[0])
    loss = plan_loss(PLAN, embeddings, codes, 0.1)
    loss.backward()
    value, found = gradients(tower, size)
    torch.testing.assert_close(value, loss.detach(), atol=1e-14, rtol=0)
    assert len(found) == 4
    for gradient, parameter in zip(found, whole.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-12, rtol=0)
    assert tower.rows_seen == 2 * 24  # each twice


def test_dropout_is_the_same_in_both_passes_and_the_generator_moves_once() -> None:
    torch.manual_seed(0)
    tower = Tower(nn.Dropout(0.5))
    kept = copy.deepcopy(tower)
    torch.manual_seed(7)
    _, found = gradients(tower, 5)
    state = torch.get_rng_state()
    torch.manual_seed(7)
    embeddings, codes = map(torch.cat, zip(*map(kept, chunks_of(5)), strict=True))
    plan_loss(PLAN, embeddings, codes, 0.1).backward()
    for gradient, parameter in zip(found, kept.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, atol=1e-12, rtol=0)
    assert torch.equal(state, torch.get_rng_state())


def test_running_statistics_move_once() -> None:
    torch.manual_seed(0)
    tower = Tower(nn.BatchNorm1d(8))
    once = copy.deepcopy(tower)
    gradients(tower, 8)
    for chunk in chunks_of(8):
        once(chunk)
    for (name, buffer), expected in zip(tower.named_buffers(), once.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected, msg=name)


def test_nothing_to_embed_is_said() -> None:
    with pytest.raises(ValueError, match="no chunks"):
        embed_in_chunks(Tower(), [])
