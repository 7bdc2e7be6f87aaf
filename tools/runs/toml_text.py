"""Nested tables from TOML text, and as TOML text, which the standard library does not write.

Writes what a config holds: strings, booleans, numbers, (nested) lists of them, and tables. None is
left out: a key that is not there stands for it.
"""

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, Final

MAX_DEPTH: Final = 50  # no table of ours has more than six
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML file's text.

    Raises:
        ValueError: it is not TOML, has a number of thousands of digits, or is nested too deep.
    """
    try:
        tables = tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    level: list[Any] = [tables]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
    if level:
        raise ValueError(f"nested too deep: more than {MAX_DEPTH} tables or lists")
    return tables


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def toml_text(tables: Mapping[str, Any]) -> str:
    """TOML that `tomllib.loads` reads back as `tables` (tuples as lists, paths as strings).

    Raises:
        TypeError: a value that has no TOML spelling.
    """
    return "\n".join(_lines(tables, ())) + "\n"


def _lines(table: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {k: v for k, v in table.items() if v is not None and not isinstance(v, Mapping)}
    nested = {k: v for k, v in table.items() if isinstance(v, Mapping)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    if path and (lines or not nested):
        lines.insert(0, f"[{'.'.join(map(_key, path))}]")
    for key, value in nested.items():
        if lines:
            lines.append("")
        lines += _lines(value, (*path, key))
    return lines


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    # JSON's escapes are TOML's, but for DEL, which TOML wants escaped too
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return repr(value)
        case float():
            return str(value)
        case str():
            return _string(value)
        case PurePath():
            return _string(str(value))
        case Mapping():  # in a list
            return f"{{ {', '.join(f'{_key(k)} = {_value(v)}' for k, v in value.items())} }}"
        case Sequence():
            return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"no TOML spelling for {value!r} of type {type(value).__name__}")
