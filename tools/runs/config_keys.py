"""Every key of a config, from the option classes themselves: its type, its default, what it means.

The text of a key is its line in the "Attributes:" section of its class's docstring. What
`gdt configs explain` prints and docs/config.md shows is made from here, so neither can lag behind.
"""

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from tools.runs.config_files import ConfigError

#: What stands for a name of one's own, as in [data.mix.NAME].
NAME: Final = "NAME"

_REQUIRED: Final = object()


@dataclass(frozen=True)
class Key:
    """One key of a config, or one table.

    Attributes:
        dotted: "optimizer.learning_rate"; for a table its name.
        kind: "number", "text", …; for a table "table".
        default: as TOML writes it; empty where there is none.
        text: what it means.
        required: whether a config has to say it.
        where: which form of a table it belongs to, where there are several: 'name = "moco"'.
    """

    dotted: str
    kind: str
    default: str
    text: str
    required: bool = False
    where: str = ""


def config_keys(config: type) -> list[Key]:
    """Every table and key of a config class, tables before their keys, in the order of the file."""
    return list(_keys(config, ()))


def explain(config: type, dotted: str) -> list[Key]:
    """The key called `dotted`; where it is a table, with all that it holds.

    Raises:
        ConfigError: there is no such key.
    """
    keys = config_keys(config)
    found = [key for key in keys if f"{key.dotted}.".startswith(f"{dotted}.")]
    if not found:
        tables = [key.dotted for key in keys if key.kind == "table" and "." not in key.dotted]
        last = dotted.rpartition(".")[2]
        inside = [key.dotted for key in keys if key.dotted.rpartition(".")[2] == last]
        hint = f"Did you mean {' or '.join(inside)}?" if inside else f"Tables: {', '.join(tables)}"
        raise ConfigError(f"a config has no key {dotted}. {hint}")
    return found


def attribute_texts(options: type) -> dict[str, str]:
    """Name → text of the "Attributes:" sections of a class and those that it builds on."""
    texts: dict[str, str] = {}
    for ancestor in reversed(options.__mro__):
        section = re.search(
            r"^Attributes:\n((?:[ ]{4}.*\n|\n)*)",
            inspect.cleandoc(ancestor.__doc__ or "") + "\n",
            re.M,
        )
        for entry in re.split(r"^ {4}(?=\S)", section.group(1) if section else "", flags=re.M)[1:]:
            names, _, text = entry.partition(":")
            for name in names.split(","):
                texts[name.strip()] = " ".join(text.split())
    return texts


def _forms(name: str, forms: Sequence[type]) -> Iterator[Key]:
    """The keys of a table that has several forms, told apart by their key `name`."""
    for form in forms:
        (told,) = typing.get_args(typing.get_type_hints(form)["name"])
        where = f'name = "{told}"'
        yield Key(name, "table", "", _first_line(form), where=where)
        for key in _keys(form, (name,)):
            yield replace(key, where=where)


def _keys(table: type, path: tuple[str, ...]) -> Iterator[Key]:
    texts = attribute_texts(table)
    for name, annotation, default in _fields(table):
        where = (*path, name)
        dotted = ".".join(where)
        forms = _tables_of(annotation)
        inner = forms[0] if forms else None
        if len(forms) > 1:
            yield from _forms(dotted, forms)
        elif name == "plan":
            yield Key("plan", "table", "", texts.get(name, ""))
            yield from _plan_keys()
        elif inner is None:
            required = default is _REQUIRED
            spelled = "" if required else _spelled(default)
            yield Key(dotted, _kind(annotation), spelled, texts.get(name, ""), required)
        elif typing.get_origin(annotation) is dict:  # tables under names of one's own
            yield Key(f"{dotted}.{NAME}", "table", "", texts.get(name, ""))
            yield from _keys(inner, (*where, NAME))
        else:
            yield Key(dotted, "table", "", texts.get(name) or _first_line(inner))
            yield from _keys(inner, where)


def _plan_keys() -> Iterator[Key]:
    """The keys of `[plan]`, whose tables are one for each factor."""
    from gdt.factor import Factor
    from gdt.factors import FACTORS
    from gdt.plan_catalog import NAMED_PLANS

    about = "begin with a published plan, whose keys stand where the tables give none: "
    yield Key("plan.name", "text", "", about + ", ".join(NAMED_PLANS) + ".")
    yield Key("plan.FACTOR", "table", "", f"One for each factor: {', '.join(FACTORS)}.")
    shared = {name for name, *_ in _fields(Factor)}
    yield from _keys(Factor, ("plan", "FACTOR"))
    for name in ("contrast", "weight"):
        text = f"the same from a file, CSV text or .npy, instead of `{name}`."
        yield Key(f"plan.FACTOR.{name}_file", "path", "", text)
    yield Key("plan.FACTOR.symmetric", "true or false", "false", "refuse tables that are not.")
    for factor, kind in FACTORS.items():
        own = [k for k in _keys(kind, ("plan", factor)) if k.dotted.split(".")[-1] not in shared]
        if own:
            yield Key(f"plan.{factor}", "table", "", _first_line(kind))
        yield from own
    yield Key("plan.tables", "table", "", "Whole tables in place of the factors' products.")
    for name, matrix in (("contrast_file", "c"), ("weight_file", "w")):
        text = f"CSV or .npy file of {matrix} over the transformations of one sample, see `Plan`."
        yield Key(f"plan.tables.{name}", "path", "", text)
    yield Key("plan.tables.symmetric", "true or false", "false", "refuse tables that are not.")


def _first_line(options: type) -> str:
    """What an option class is, without the name of its table."""
    line = (options.__doc__ or "").partition("\n")[0]
    text = re.sub(r"^`\[[^]]*\]`: ", "", line)
    return text[:1].upper() + text[1:]


def _fields(table: type) -> Iterator[tuple[str, Any, Any]]:
    """(name, annotation, default) of each key; the default of a table is nothing anyone reads."""
    if issubclass(table, BaseModel):
        for name, option in table.model_fields.items():
            default = _REQUIRED if option.default is PydanticUndefined else option.default
            yield name, option.annotation, default
        return
    hints = typing.get_type_hints(table)
    assert dataclasses.is_dataclass(table)
    for field in dataclasses.fields(table):
        if field.init:
            missing = field.default is dataclasses.MISSING
            of_its_own = (
                field.default_factory is not dataclasses.MISSING
            )  # a table: nothing to show
            default = (None if of_its_own else _REQUIRED) if missing else field.default
            yield field.name, hints[field.name], default


def _tables_of(annotation: Any) -> list[type]:
    """The option classes behind an annotation, none where it is a plain value."""
    if typing.get_origin(annotation) is dict:
        annotation = typing.get_args(annotation)[1]
    return [
        kind
        for kind in (annotation, *typing.get_args(annotation))
        if isinstance(kind, type)
        and (dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel))
    ]


_KINDS: Final[dict[Any, str]] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
}


def _kind(annotation: Any) -> str:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(_spelled(value) for value in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(kind) for kind in inside if kind is not type(None))
    if annotation == tuple[tuple[float, ...], ...]:
        return "list of rows of numbers"
    if origin is tuple:
        some = "any number" if Ellipsis in inside else str(len(inside))
        return f"list of {some}: {_kind(inside[0])}"
    if origin is dict:
        return "table"
    return _KINDS.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _spelled(value: Any) -> str:
    if value is None or isinstance(value, dict):
        return ""
    from tools.runs.toml_text import toml_text

    return toml_text({"x": value}).removeprefix("x = ").rstrip("\n")
