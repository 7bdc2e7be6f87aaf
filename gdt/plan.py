"""The plan: which factors make up a transformation, and what c and w follow from them.

A plan is read once and checked; afterwards it only turns codes into matrices. With codes t and t'
of two transformations,

    c(T, T') = Π_m C_m[t_m, t'_m]        w(T, T') = [T ≠ T'] · Π_m W_m[t_m, t'_m]

so that on a full grid of draws both are Kronecker products of the factors' small tables. Where a
product is not enough, a whole table over the grid of one sample's transformations may take the
place of either. Both forms end as the same four G×G tables, see `gdt.grid`.

Legend: Q queries, K keys, M factors, G transformations of one sample: the product of all draws.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from gdt.factor import Factor, Table, check_table
from gdt.factors import FACTORS
from gdt.grid import GridTables, grid_codes, grid_tables, look_up, row_name
from gdt.plan_checks import check_anchors
from gdt.plan_tables import complete, read_factors, read_whole_table

#: c and w of a sample's transformations are tables of G × G numbers.
MAX_TRANSFORMATIONS: Final = 1024


@dataclass(frozen=True)
class Plan:
    """Factors in canonical order, and optionally whole tables in place of their products.

    Attributes:
        factors: `sample` and `modality` always, the others where the plan draws them.
        contrast_of_grid: 2G×G numbers from 0 to 1: G rows for pairs within one sample, then G rows
            for pairs of different samples; rows and columns in the order of `grid`.
        weight_of_grid: the same for w, of numbers not below 0.

    Raises:
        ValueError: a missing or repeated factor, too many transformations, a table of the wrong
            shape, or a transformation without a positive, without a negative or without any pair.
    """

    factors: tuple[Factor, ...]
    contrast_of_grid: Table | None = None
    weight_of_grid: Table | None = None

    def __post_init__(self) -> None:
        names = [factor.name for factor in self.factors]
        for required in ("sample", "modality"):
            if required not in names:
                raise ValueError(f"plan: factor {required!r} is missing, got {', '.join(names)}")
        if names != [name for name in FACTORS if name in names]:
            raise ValueError(
                f"plan: factors {names} must be different and in the order {list(FACTORS)}"
            )
        size = self.num_transformations
        if size > MAX_TRANSFORMATIONS:
            draws = " × ".join(f"{factor.draws} ({factor.name})" for factor in self.factors)
            raise ValueError(
                f"plan: {size} transformations of each sample, {MAX_TRANSFORMATIONS} at most; "
                f"lower some draws of {draws}"
            )
        shape = (2 * size, size)
        check_table(self.contrast_of_grid, shape, "plan: whole contrast table", highest=1)
        check_table(self.weight_of_grid, shape, "plan: whole weight table")
        is_product = self.contrast_of_grid is None and self.weight_of_grid is None
        check_anchors(self.factors, self.tables, is_product=is_product)

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any], folder: Path | None = None) -> "Plan":
        """The plan of a `[plan]` table: one sub-table per factor.

        Args:
            tables: factor name → its keys (`relation`, `draws`, `values`, `pairs`, `contrast`,
                `weight`, `contrast_file`, `weight_file`, `symmetric`, and its own); under `name`
                a published plan whose keys stand where these give none; and, under `tables`,
                `contrast_file` and `weight_file` of G rows (a pair of different samples then
                counts 0 in c and alike in w) or of 2G rows (see `Plan`), and `symmetric`. Files
                are CSV text or .npy.
            folder: where relative file names start; the current folder by default.

        Raises:
            ValueError: an unknown name, factor or key, or whatever `Factor` and `Plan` refuse.
        """
        folder = folder or Path()
        subtables = complete(tables)
        factors = read_factors(subtables, folder)
        if "tables" not in subtables:
            return cls(factors)
        whole, size = subtables["tables"], math.prod(factor.draws for factor in factors)
        contrast = read_whole_table(whole, "contrast_file", size, folder)
        weight = read_whole_table(whole, "weight_file", size, folder)
        return cls(factors, contrast, weight)

    @property
    def names(self) -> tuple[str, ...]:
        """The factors' names: what the columns of a code mean."""
        return tuple(factor.name for factor in self.factors)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the order of their codes."""
        return next(factor.values for factor in self.factors if factor.name == "modality")

    @property
    def num_transformations(self) -> int:
        """G, of each sample."""
        return math.prod(factor.draws for factor in self.factors)

    def factor(self, name: str) -> Factor | None:
        """A factor, None where the plan does not have it."""
        return next((factor for factor in self.factors if factor.name == name), None)

    def column(self, name: str) -> int | None:
        """The code column of a factor, None where the plan does not have it."""
        return self.names.index(name) if name in self.names else None

    def draws(self, name: str) -> int:
        """K_m: how many versions of a factor a sample gets; 1 where the plan does not have it."""
        factor = self.factor(name)
        return factor.draws if factor else 1

    @property
    def min_seconds_apart(self) -> float:
        """How far apart the starts of one clip's segments are at least; 0 where nothing says so."""
        return getattr(self.factor("time_shift"), "min_seconds_apart", 0.0)

    def grid(self) -> Tensor:
        """The codes of one sample's transformations, int64 [G, M], with 0 for the sample."""
        return grid_codes(self.factors)

    def codes(self, samples: Tensor) -> Tensor:
        """The full grid of several samples, int64 [N·G, M], sample by sample.

        Args:
            samples: int64 [N], the samples' indices in the data set.
        """
        grid = self.grid()
        codes = grid.repeat(len(samples), 1)
        codes[:, self.names.index("sample")] = samples.repeat_interleave(len(grid))
        return codes

    def places(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Codes as two numbers: the sample, and the place of the transformation in `grid`.

        Args:
            codes: int64 [N, M].

        Returns:
            int64 [N] and int64 [N].
        """
        place = torch.zeros_like(codes[:, 0])
        for m, factor in enumerate(self.factors):
            if factor.name != "sample":
                place = place * factor.draws + codes[:, m]
        return codes[:, self.names.index("sample")], place

    @cached_property
    def tables(self) -> GridTables:
        """What c and w are for every pair of places in the grid, on the CPU."""
        return grid_tables(self.factors, self.contrast_of_grid, self.weight_of_grid)

    def contrast(self, query_codes: Tensor, key_codes: Tensor) -> Tensor:
        """The contrast matrix c: which pairs are positive.

        Args:
            query_codes: int64 [Q, M].
            key_codes: int64 [K, M].

        Returns:
            float64 [Q, K] on the codes' device.
        """
        tables = self.tables
        return self._look_up(
            tables.contrast_within, tables.contrast_between, query_codes, key_codes
        )

    def weight(self, query_codes: Tensor, key_codes: Tensor) -> Tensor:
        """The weight matrix w: which pairs take part, and how much. A pair with itself never does.

        Args:
            query_codes: int64 [Q, M].
            key_codes: int64 [K, M].

        Returns:
            float64 [Q, K] on the codes' device.
        """
        tables = self.tables
        return self._look_up(tables.weight_within, tables.weight_between, query_codes, key_codes)

    def row_name(self, code: Tensor) -> str:
        """A transformation's name for tables and pictures, "sample 3 · time_shift 1 · video"."""
        return row_name(self.factors, code)

    def draw_names(self, code: Tensor) -> list[str]:
        """What each factor's draw is called, as in ["3", "1", "video"] under `names`."""
        return [
            str(factor.values[draw] if factor.values else draw)
            for factor, draw in zip(self.factors, code.tolist(), strict=True)
        ]

    def fingerprint(self) -> str:
        """A hexadecimal digest that changes with anything that changes draws, codes, c or w."""
        identity = {
            "factors": [factor.identity() for factor in self.factors],
            "contrast_of_grid": self.contrast_of_grid,
            "weight_of_grid": self.weight_of_grid,
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def _look_up(
        self, within: Tensor, between: Tensor, query_codes: Tensor, key_codes: Tensor
    ) -> Tensor:
        samples, rows = self.places(query_codes)
        key_samples, columns = self.places(key_codes)
        within, between = (table.to(query_codes.device) for table in (within, between))
        same_sample = samples[:, None] == key_samples
        return torch.where(
            same_sample, look_up(within, rows, columns), look_up(between, rows, columns)
        )
