"""The matrix of all pairs, cut into tiles whose c and w follow from the codes, empty ones left out.

Rows and columns are sorted by transformation and then by sample. So a tile mostly pairs one
transformation with one other, of samples that do not meet in it: such a tile has no positive and a
single weight, and where that is 0 the tile is left out.

Legend: Q queries, K keys, M factors, G transformations of one sample; q, k the sides of a tile.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from gdt.grid import look_up
from gdt.plan import Plan


class Tile(NamedTuple):
    """A block of the sorted matrix.

    Attributes:
        rows: of the sorted queries.
        columns: of the sorted keys.
        contrast: c, [q, k]; None where it is 0 throughout.
        weight: w, [q, k]; a number where it is the same throughout.
    """

    rows: slice
    columns: slice
    contrast: Tensor | None
    weight: Tensor | float


class _Side(NamedTuple):
    """The rows (or columns) in their order, and what each block of them spans."""

    order: Tensor  # N: sorted → given
    samples: Tensor  # N
    places: Tensor  # N, in the plan's grid
    spans: list[tuple[slice, slice, int, int]]  # block, places, first and last sample


class Tiles:
    """Iterates over the tiles that weigh, always in the same order.

    Args:
        plan: gives c and w.
        query_codes: int64 [Q, M].
        key_codes: int64 [K, M].
        size: most rows and columns of a tile.
        dtype: of c and w.
    """

    def __init__(
        self, plan: Plan, query_codes: Tensor, key_codes: Tensor, size: int, dtype: torch.dtype
    ) -> None:
        self._rows, self._columns = (
            _sorted(*plan.places(codes), size) for codes in (query_codes, key_codes)
        )
        self._host = plan.tables
        self.tables = plan.tables.to(query_codes.device, dtype)

    @property
    def row_order(self) -> Tensor:
        """int64 [Q]: which query stands in each row."""
        return self._rows.order

    @property
    def row_codes(self) -> tuple[Tensor, Tensor]:
        """Sample and place in the plan's grid of each row, int64 [Q] each."""
        return self._rows.samples, self._rows.places

    @property
    def column_codes(self) -> tuple[Tensor, Tensor]:
        """Sample and place of each column, int64 [K] each."""
        return self._columns.samples, self._columns.places

    @property
    def column_order(self) -> Tensor:
        """int64 [K]: which key stands in each column."""
        return self._columns.order

    def __iter__(self) -> Iterator[Tile]:
        for rows, places, first, last in self._rows.spans:
            for columns, key_places, key_first, key_last in self._columns.spans:
                block = places, key_places
                weight = self._host.weight_between[block]
                may_meet = first <= key_last and key_first <= last
                if not weight.any() and not (may_meet and self._host.weight_within[block].any()):
                    continue
                if may_meet or self._host.contrast_between[block].any():
                    yield Tile(rows, columns, *self._look_up(rows, columns))
                elif (number := float(weight[0, 0])) == weight.min() == weight.max():
                    yield Tile(rows, columns, None, number)
                else:
                    yield Tile(rows, columns, None, self._look_up(rows, columns)[1])

    def _look_up(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Of a tile, c and w, [q, k] each."""
        c_within, c_between, w_within, w_between = self.tables
        i, j = self._rows.places[rows], self._columns.places[columns]
        is_same = self._rows.samples[rows, None] == self._columns.samples[columns]
        contrast = torch.where(is_same, look_up(c_within, i, j), look_up(c_between, i, j))
        return contrast, torch.where(is_same, look_up(w_within, i, j), look_up(w_between, i, j))


def _sorted(samples: Tensor, places: Tensor, size: int) -> _Side:
    order = samples.argsort(stable=True)
    order = order[places[order].argsort(stable=True)]
    samples, places = samples[order], places[order]
    blocks = [slice(start, start + size) for start in range(0, len(order), size)]
    if not blocks:
        return _Side(order, samples, places, [])
    bounds = torch.stack(
        [torch.stack(values[block].aminmax()) for block in blocks for values in (samples, places)]
    ).tolist()  # one transfer from a GPU
    spans = [
        (block, slice(lowest, highest + 1), first, last)
        for block, (first, last), (lowest, highest) in zip(
            blocks, bounds[0::2], bounds[1::2], strict=True
        )
    ]
    return _Side(order, samples, places, spans)
