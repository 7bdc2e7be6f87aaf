"""The plan: which factors make up a transformation, and what c and w follow from them.

A plan is read once and checked; afterwards it only turns codes into matrices. With codes t and t'
of two transformations,

    c(T, T') = Π_m C_m[t_m, t'_m]        w(T, T') = [T ≠ T'] · Π_m W_m[t_m, t'_m]

so that on a full grid of draws both are Kronecker products of the factors' small tables. Where a
product is not enough, a whole table over the grid of one sample's transformations may take the
place of either.

Legend: Q queries, K keys, M factors, G transformations of one sample.
"""

import csv
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from gdt.factor import FACTOR_NAMES, Factor, Table, check_table

_FACTOR_KEYS = tuple(field.name for field in fields(Factor) if field.name != "name")
_WHOLE_TABLE_KEYS = ("contrast_file", "weight_file")


@dataclass(frozen=True)
class Plan:
    """Factors in canonical order, and optionally whole tables in place of their products.

    Attributes:
        factors: `sample` and `modality` always, the others where the plan draws them.
        contrast_of_grid: 2G×G numbers: G rows for pairs within one sample, then G rows for pairs
            of different samples; rows and columns in the order of `grid`.
        weight_of_grid: the same for w.

    Raises:
        ValueError: a missing or repeated factor, a table of the wrong shape, or a plan under which
            no pair is positive.
    """

    factors: tuple[Factor, ...]
    contrast_of_grid: Table | None = None
    weight_of_grid: Table | None = None

    def __post_init__(self) -> None:
        names = [factor.name for factor in self.factors]
        for required in ("sample", "modality"):
            if required not in names:
                raise ValueError(f"plan: factor {required!r} is missing, got {', '.join(names)}")
        if names != sorted(set(names), key=FACTOR_NAMES.index):
            raise ValueError(
                f"plan: factors {names} must be different and in the order {list(FACTOR_NAMES)}"
            )
        num_transformations = len(self.grid())
        shape = (2 * num_transformations, num_transformations)
        check_table(self.contrast_of_grid, shape, "plan: whole contrast table")
        check_table(self.weight_of_grid, shape, "plan: whole weight table")
        codes = self.codes(torch.arange(2))
        if not (self.contrast(codes, codes) * self.weight(codes, codes)).any():
            raise ValueError(
                "plan: no pair of transformations is positive (c·w = 0 everywhere): a sample needs "
                "two draws of an invariant factor, or two modalities, whose pair has a weight"
            )

    @classmethod
    def from_tables(
        cls, tables: Mapping[str, Mapping[str, Any]], folder: Path | None = None
    ) -> "Plan":
        """The plan of a `[plan]` table: one sub-table per factor.

        Args:
            tables: factor name → its keys (`relation`, `draws`, `values`, `pairs`, `contrast`,
                `weight`); and, under `tables`, `contrast_file` and `weight_file`: CSV files of G
                rows (a pair of different samples then counts 0 in c and alike in w), or of 2G rows
                (see `Plan`).
            folder: where relative file names start; the current folder by default.

        Raises:
            ValueError: an unknown factor or key, or whatever `Factor` and `Plan` refuse.
        """
        unknown = set(tables) - {*FACTOR_NAMES, "tables"}
        if unknown:
            raise ValueError(
                f"[plan]: unknown factor {sorted(unknown)[0]!r}, allowed are "
                f"{', '.join(FACTOR_NAMES)} and tables"
            )
        factors = tuple(
            _factor_from_table(name, tables[name]) for name in FACTOR_NAMES if name in tables
        )
        whole = dict(tables.get("tables", {}))
        _refuse_unknown(whole, _WHOLE_TABLE_KEYS, "[plan.tables]")
        for key, value in whole.items():
            if not isinstance(value, str):
                raise ValueError(f"[plan.tables]: {key} = {value!r}, must be the name of a file")
        if not whole:
            return cls(factors)
        num_transformations = len(cls(factors).grid())
        contrast, weight = (
            _read_whole_table((folder or Path()) / whole[key], num_transformations, fill)
            if key in whole
            else None
            for key, fill in zip(_WHOLE_TABLE_KEYS, ("zeros", "repeat"), strict=True)
        )
        return cls(factors, contrast, weight)

    @property
    def names(self) -> tuple[str, ...]:
        """The factors' names: what the columns of a code mean."""
        return tuple(factor.name for factor in self.factors)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities, in the order of their codes."""
        return next(factor.values for factor in self.factors if factor.name == "modality")

    def column(self, name: str) -> int | None:
        """The code column of a factor, None where the plan does not have it."""
        return self.names.index(name) if name in self.names else None

    def draws(self, name: str) -> int:
        """K_m: how many versions of a factor a sample gets; 1 where the plan does not have it."""
        return next((factor.draws for factor in self.factors if factor.name == name), 1)

    def grid(self) -> Tensor:
        """The codes of one sample's transformations, int64 [G, M], with 0 for the sample."""
        return torch.tensor(
            list(itertools.product(*(range(factor.draws) for factor in self.factors))),
            dtype=torch.int64,
        )

    def codes(self, samples: Tensor) -> Tensor:
        """The full grid of several samples, int64 [N·G, M], sample by sample.

        Args:
            samples: int64 [N], the samples' indices in the data set.
        """
        grid = self.grid()
        codes = grid.repeat(len(samples), 1)
        codes[:, self.names.index("sample")] = samples.repeat_interleave(len(grid))
        return codes

    def contrast(self, query_codes: Tensor, key_codes: Tensor) -> Tensor:
        """The contrast matrix c: which pairs are positive.

        Args:
            query_codes: int64 [Q, M].
            key_codes: int64 [K, M].

        Returns:
            float64 [Q, K] on the codes' device.
        """
        if self.contrast_of_grid is not None:
            return self._from_whole_table(self.contrast_of_grid, query_codes, key_codes)
        contrast = self._same_sample(query_codes, key_codes).double()
        for m, factor in enumerate(self.factors):
            if factor.name != "sample":
                table = factor.contrast_table.to(query_codes.device)
                contrast *= table[query_codes[:, m]][:, key_codes[:, m]]
        return contrast

    def weight(self, query_codes: Tensor, key_codes: Tensor) -> Tensor:
        """The weight matrix w: which pairs take part, and how much. A pair with itself never does.

        Args:
            query_codes: int64 [Q, M].
            key_codes: int64 [K, M].

        Returns:
            float64 [Q, K] on the codes' device.
        """
        weight = (query_codes[:, None] != key_codes[None]).any(-1).double()
        if self.weight_of_grid is not None:
            return weight * self._from_whole_table(self.weight_of_grid, query_codes, key_codes)
        for m, factor in enumerate(self.factors):
            if factor.name != "sample":
                table = factor.weight_table.to(query_codes.device)
                weight *= table[query_codes[:, m]][:, key_codes[:, m]]
        return weight

    def row_name(self, code: Tensor) -> str:
        """A transformation's name for tables and pictures, "sample 3 · time_shift 1 · video"."""
        parts = []
        for factor, value in zip(self.factors, code.tolist(), strict=True):
            parts.append(factor.values[value] if factor.values else f"{factor.name} {value}")
        return " · ".join(parts)

    def fingerprint(self) -> str:
        """A hexadecimal digest that changes with anything that changes codes, c or w."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def _same_sample(self, query_codes: Tensor, key_codes: Tensor) -> Tensor:
        m = self.names.index("sample")
        return query_codes[:, None, m] == key_codes[None, :, m]

    def _from_whole_table(self, table: Table, query_codes: Tensor, key_codes: Tensor) -> Tensor:
        device = query_codes.device
        strides = torch.ones(len(self.factors), dtype=torch.int64)
        for m in range(len(self.factors) - 2, -1, -1):
            strides[m] = strides[m + 1] * self.factors[m + 1].draws
        strides[self.names.index("sample")] = 0
        rows, columns = (codes @ strides.to(device) for codes in (query_codes, key_codes))
        within, between = torch.tensor(table, dtype=torch.float64, device=device).chunk(2)
        same_sample = self._same_sample(query_codes, key_codes)
        return torch.where(same_sample, within[rows][:, columns], between[rows][:, columns])


def _refuse_unknown(table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise ValueError(f"{where}: unknown key {key!r}, allowed are {', '.join(allowed)}")


def _factor_from_table(name: str, table: Mapping[str, Any]) -> Factor:
    _refuse_unknown(table, _FACTOR_KEYS, f"[plan.{name}]")
    if "relation" not in table:
        raise ValueError(f"[plan.{name}]: relation is missing: invariant or distinctive")
    for key, value in table.items():
        if not _KEY_TYPES[key][0](value):
            raise ValueError(f"[plan.{name}]: {key} = {value!r}, must be {_KEY_TYPES[key][1]}")
    keys = dict(table)
    keys["values"] = tuple(keys.get("values", ()))
    keys.setdefault("draws", max(1, len(keys["values"])))
    for own_table in ("contrast", "weight"):
        if keys.get(own_table) is not None:
            keys[own_table] = tuple(tuple(float(x) for x in row) for row in keys[own_table])
    return Factor(name=name, **keys)


def _is_number_table(value: object) -> bool:
    return value is None or (
        isinstance(value, list | tuple)
        and all(isinstance(row, list | tuple) for row in value)
        and all(isinstance(x, int | float) for row in value for x in row)
    )


#: key of a factor's table → (whether a value will do, what it must be)
_KEY_TYPES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "relation": (lambda value: isinstance(value, str), "text"),
    "pairs": (lambda value: isinstance(value, str), "text"),
    "draws": (lambda value: type(value) is int, "a whole number"),
    "values": (
        lambda value: isinstance(value, list | tuple) and all(isinstance(x, str) for x in value),
        "a list of names",
    ),
    "contrast": (_is_number_table, "a list of rows of numbers"),
    "weight": (_is_number_table, "a list of rows of numbers"),
}


def _read_whole_table(path: Path, num_transformations: int, fill: str) -> Table:
    try:
        text = path.read_text()
    except OSError as error:
        raise ValueError(f"[plan.tables]: cannot read {path}: {error.strerror}") from error
    try:
        rows = [[float(x) for x in row] for row in csv.reader(text.splitlines()) if row]
    except ValueError as error:
        raise ValueError(f"[plan.tables]: {path} is not a CSV file of numbers: {error}") from error
    if len(rows) == num_transformations:
        rows += rows if fill == "repeat" else [[0.0] * num_transformations] * num_transformations
    table = tuple(map(tuple, rows))
    check_table(table, (2 * num_transformations, num_transformations), f"[plan.tables]: {path}")
    return table
