import math
import tomllib
from pathlib import Path

import pytest

from tools.runs.toml_text import parse_toml, toml_text


def test_reads_back_equal() -> None:
    tables = {
        "seed": 3,
        "name": 'quotes " and \\ and \n and ü and \x7f and \x01',
        "flag": True,
        "rate": 1e-5,
        "whole_float": 2.0,
        "limit": math.inf,
        "list": [1, 2],
        "table": {"rows": [[1.0, 0.5], [0.0, 1.0]], "nested": {"a": "b"}, "empty": {}},
        "odd key.": {"a b": 1},
        "views": [{"count": 2, "scales": [0.5, 1.0]}, {}],
    }
    assert tomllib.loads(toml_text(tables)) == tables


def test_every_float_keeps_its_bits() -> None:
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0]
    assert tomllib.loads(toml_text({"x": numbers}))["x"] == numbers


def test_none_is_left_out_and_paths_and_tuples_are_written() -> None:
    text = toml_text({"a": None, "b": (1, 2), "c": Path("x/y")})
    assert text == 'b = [1, 2]\nc = "x/y"\n'


def test_an_empty_table_keeps_its_heading() -> None:
    assert tomllib.loads(toml_text({"a": {"b": {}}})) == {"a": {"b": {}}}


def test_refuses_what_has_no_spelling() -> None:
    with pytest.raises(TypeError, match="no TOML spelling for"):
        toml_text({"a": object()})


DEEP_KEY = ".".join(["a"] * 5000)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 100_000,
        "a = " + "[" * 60 + "]" * 60,
        "a = " + "{ a = " * 60 + "1" + "}" * 60,
        f"{DEEP_KEY} = 1",
        f"[{DEEP_KEY}]",
        "a = " + "9" * 5000,
        "a = \x1b",
        "a",
    ],
)
def test_toml_that_cannot_be_read_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_toml(text)
