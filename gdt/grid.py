"""The grid of one sample's transformations: their codes, their names, and c and w between them.

Legend: M factors, G transformations of one sample: the product of all draws.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gdt.factor import Factor, Table


class GridTables(NamedTuple):
    """c and w by places in the grid: float64 [G, G] each.

    `within` is for two transformations of the same sample (w is 0 where they are the same one),
    `between` for those of two samples.
    """

    contrast_within: Tensor
    contrast_between: Tensor
    weight_within: Tensor
    weight_between: Tensor

    def to(self, device: torch.device, dtype: torch.dtype) -> "GridTables":
        """The same tables on `device`, of `dtype`."""
        return GridTables(*(table.to(device, dtype) for table in self))


def grid_codes(factors: Sequence[Factor]) -> Tensor:
    """The codes of one sample's transformations, int64 [G, M], with 0 for the sample."""
    draws = (range(factor.draws) for factor in factors)
    return torch.tensor(list(itertools.product(*draws)), dtype=torch.int64)


def row_name(factors: Sequence[Factor], code: Tensor) -> str:
    """A transformation's name, "sample 3 · time_shift 1 · video"."""
    parts = []
    for factor, draw in zip(factors, code.tolist(), strict=True):
        value = factor.values[draw] if factor.values else draw
        parts.append(value if isinstance(value, str) else f"{factor.name} {value}")
    return " · ".join(parts)


def grid_tables(
    factors: Sequence[Factor], contrast_of_grid: Table | None, weight_of_grid: Table | None
) -> GridTables:
    """The Kronecker products of the factors' tables, or the whole tables in their place."""
    product = torch.ones(1, 1, dtype=torch.float64)
    contrast, weight = product, product
    for factor in factors:
        contrast = torch.kron(contrast, factor.contrast_table)
        weight = torch.kron(weight, factor.weight_table)
    contrasts = contrast, torch.zeros_like(contrast)  # samples are distinctive
    weights = weight, weight
    if contrast_of_grid is not None:
        contrasts = _halves(contrast_of_grid)
    if weight_of_grid is not None:
        weights = _halves(weight_of_grid)
    not_itself = 1 - torch.eye(len(weight), dtype=torch.float64)
    return GridTables(*contrasts, weights[0] * not_itself, weights[1])


def look_up(table: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A [G, G] table's entries [q, k]: small columns first, so that rows are copied as wholes."""
    return table.index_select(1, columns).index_select(0, rows)


def _halves(table: Table) -> tuple[Tensor, Tensor]:
    within, between = torch.tensor(table, dtype=torch.float64).chunk(2)
    return within, between
