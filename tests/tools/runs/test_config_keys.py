"""Every key of a config is explained by the class that takes it."""

from dataclasses import dataclass, field

import pytest

from tools.runs.config import Config
from tools.runs.config_files import ConfigError
from tools.runs.config_keys import Key, attribute_texts, config_keys, explain

KEYS = config_keys(Config)


@pytest.mark.parametrize("key", KEYS, ids=[key.dotted for key in KEYS])
def test_every_key_says_what_it_means(key: Key) -> None:
    assert len(key.text) > 1, f"{key.dotted} has no line in its class's Attributes:"
    assert "<" not in key.kind, "a type that no reader of a config knows"


@dataclass(frozen=True)
class Inner:
    """A table.

    Attributes:
        low, high: limits, both
            included.
    """

    low: float = 0.5
    high: float | None = None


@dataclass(frozen=True)
class Outer(Inner):
    """Builds on another.

    Attributes:
        name: what it is called.
        more: tables by name.

    Raises:
        ValueError: never.
    """

    name: str = field(kw_only=True)
    inner: Inner = Inner()
    more: dict[str, Inner] = field(default_factory=dict)


def test_texts_come_from_all_classes() -> None:
    both = "limits, both included."
    assert attribute_texts(Outer) == {
        "low": both,
        "high": both,
        "name": "what it is called.",
        "more": "tables by name.",
    }


def test_keys_have_types_and_defaults_as_a_config_spells_them() -> None:
    both = "limits, both included."
    assert config_keys(Outer) == [
        Key("low", "number", "0.5", both),
        Key("high", "number", "", both),
        Key("name", "text", "", "what it is called.", required=True),
        Key("inner", "table", "", "A table."),
        Key("inner.low", "number", "0.5", both),
        Key("inner.high", "number", "", both),
        Key("more.NAME", "table", "", "tables by name."),
        Key("more.NAME.low", "number", "0.5", both),
        Key("more.NAME.high", "number", "", both),
    ]


def test_a_table_is_explained_with_its_keys() -> None:
    assert [key.dotted for key in explain(Outer, "inner")] == ["inner", "inner.low", "inner.high"]
    assert [key.dotted for key in explain(Outer, "inner.low")] == ["inner.low"]


def test_a_key_that_is_not_there_is_looked_for_elsewhere() -> None:
    with pytest.raises(ConfigError, match=r"no key inner.lo\. Tables: inner"):
        explain(Outer, "inner.lo")
    with pytest.raises(ConfigError, match=r"no key more.low\. Did you mean low or inner.low or"):
        explain(Outer, "more.low")
