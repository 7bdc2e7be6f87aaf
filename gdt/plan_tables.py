"""The `[plan]` table of a config, read: its factors, and whole tables where it names some."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from gdt.factor import Factor, Table, check_table
from gdt.factors import FACTORS
from gdt.plan_catalog import tables_of
from gdt.table_files import read_table

#: key of `[plan.tables]` → how G rows become 2G: what pairs of different samples count then
WHOLE_TABLES: Final[dict[str, Callable[[Table], Table]]] = {
    "contrast_file": lambda rows: rows + tuple((0.0,) * len(row) for row in rows),
    "weight_file": lambda rows: rows + rows,
}


def complete(tables: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The sub-tables of `[plan]`, those of a named plan under one's own keys.

    Raises:
        ValueError: an unknown name or factor, a key outside a sub-table.
    """
    own = {key: value for key, value in tables.items() if key != "name"}
    for key, value in own.items():
        if key not in FACTORS and key != "tables":
            raise ValueError(
                f"[plan]: unknown factor {key!r}, allowed are name, {', '.join(FACTORS)} and tables"
            )
        if not isinstance(value, Mapping):
            raise ValueError(f"[plan]: {key} = {value!r}, must be a table [plan.{key}]")
    if "name" not in tables:
        return own
    named = tables_of(tables["name"])
    return {key: {**named.get(key, {}), **own.get(key, {})} for key in {**named, **own}}


def read_factors(tables: Mapping[str, Mapping[str, Any]], folder: Path) -> tuple[Factor, ...]:
    """The factors of complete tables, in canonical order.

    Raises:
        ValueError: an unknown or ill-typed key, or whatever a factor refuses.
    """
    return tuple(_factor(name, tables[name], folder) for name in FACTORS if name in tables)


def read_whole_table(
    tables: Mapping[str, Any], key: str, num_transformations: int, folder: Path
) -> Table | None:
    """The table that a key of `[plan.tables]` names, 2G rows of G numbers; None without the key.

    Raises:
        ValueError: an unknown key, an unreadable file, a table of the wrong shape or range, or one
            that is not symmetric where `symmetric = true` says so.
    """
    where = "[plan.tables]"
    _refuse_unknown(tables, (*WHOLE_TABLES, "symmetric"), where)
    for name, value in tables.items():
        _check_type(where, name, value)
    if key not in tables:
        return None
    size, path = num_transformations, folder / tables[key]
    table = read_table(path, where)
    if len(table) == size:
        table = WHOLE_TABLES[key](table)
    check_table(table, (2 * size, size), f"{where}: {path}")
    if tables.get("symmetric", False):
        _check_symmetric(table[:size], f"{where}: {path}")
        _check_symmetric(table[size:], f"{where}: {path}, pairs of different samples")
    return table


def _factor(name: str, table: Mapping[str, Any], folder: Path) -> Factor:
    where = f"[plan.{name}]"
    kind = FACTORS[name]
    allowed = tuple(field.name for field in fields(kind))
    _refuse_unknown(table, (*allowed, "contrast_file", "weight_file", "symmetric"), where)
    if "relation" not in table:
        raise ValueError(f"{where}: relation is missing: invariant or distinctive")
    for key, value in table.items():
        _check_type(where, key, value)
    keys = {key: value for key, value in table.items() if key in allowed}
    keys["values"] = tuple(keys.get("values", ()))
    keys.setdefault("draws", max(1, len(keys["values"])))
    for key in ("contrast", "weight"):
        file = table.get(f"{key}_file")
        if file is not None and keys.get(key) is not None:
            raise ValueError(f"{where}: both {key} and {key}_file; keep one")
        if file is not None:
            keys[key] = read_table(folder / file, where)
        elif keys.get(key) is not None:
            keys[key] = tuple(tuple(float(x) for x in row) for row in keys[key])
    factor = kind(**keys)
    if table.get("symmetric", False):
        for key in ("contrast", "weight"):
            _check_symmetric(getattr(factor, key) or (), f"{where}: {key}")
    return factor


def _check_symmetric(table: Table, where: str) -> None:
    for i, row in enumerate(table):
        for j, x in enumerate(row[:i]):
            if x != table[j][i]:
                raise ValueError(
                    f"{where}: is not symmetric, as symmetric = true says: {x} in row {i} "
                    f"column {j}, {table[j][i]} in row {j} column {i}"
                )


def _refuse_unknown(table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise ValueError(f"{where}: unknown key {key!r}, allowed are {', '.join(allowed)}")


def _check_type(where: str, key: str, value: object) -> None:
    if key in _KEY_TYPES and not _KEY_TYPES[key][0](value):
        raise ValueError(f"{where}: {key} = {value!r}, must be {_KEY_TYPES[key][1]}")


def _is_number_table(value: object) -> bool:
    return value is None or (
        isinstance(value, list | tuple)
        and all(isinstance(row, list | tuple) for row in value)
        and all(type(x) in (int, float) for row in value for x in row)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


#: key → (whether a value will do, what it must be); a factor checks keys of its own itself
_KEY_TYPES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "relation": (_is_text, "text"),
    "pairs": (_is_text, "text"),
    "draws": (lambda value: type(value) is int, "a whole number"),
    "values": (lambda value: isinstance(value, list | tuple), "a list of names or of numbers"),
    "contrast": (_is_number_table, "a list of rows of numbers"),
    "weight": (_is_number_table, "a list of rows of numbers"),
    "contrast_file": (_is_text, "the name of a file"),
    "weight_file": (_is_text, "the name of a file"),
    "symmetric": (lambda value: type(value) is bool, "true or false"),
}
