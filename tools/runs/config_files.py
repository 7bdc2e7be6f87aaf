"""Where a config comes from: a TOML file, or one that travels with the program, by its name.

Needs the standard library alone: a missing file or a malformed --set is refused at once.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from shards.storage.text_files import read_small
from tools.runs.toml_text import parse_toml

#: The configs that come along: beside the package, in a checkout as in an installed wheel.
CONFIGS: Final = Path(__file__).parents[2] / "configs"


#: Every key of a config, one a line; NAME and FACTOR stand for names of one's own.
KEYS: Final = Path(__file__).with_name("config_keys.txt")

#: Keys of earlier versions, and what stands in their place.
RENAMED: Final = {
    "model": "[method] (name = …, temperature, hidden_dim and what else that method has) and "
    "[encoders] (video, audio, image)",
    **{
        f"{table}.{key}": f"{table}.{key}_probability"
        for table in ("video_augment", "image_augment")
        for key in ("flip", "jitter", "gray", "blur")
    },
}


class ConfigError(Exception):
    """A config that cannot be used; the message is for the person who wrote it."""


def shipped_configs() -> dict[str, Path]:
    """The configs that come along, name → file, in alphabetical order."""
    return {path.stem: path for path in sorted(CONFIGS.glob("*.toml"))}


def headline(path: Path) -> str:
    """The first line of a config's opening comment: what the config is."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def is_config(name: str) -> bool:
    """Whether `name` is that of a config that comes along, or a path."""
    return name in shipped_configs() or Path(name).suffix == ".toml" or Path(name).name != name


def find_config(name: str) -> Path:
    """The file that is meant by `name`: a word is a config that comes along, all else is a path.

    Raises:
        ConfigError: there is no such config, or no such file.
    """
    shipped = shipped_configs()
    if name in shipped:
        return shipped[name]
    if not is_config(name):
        raise ConfigError(
            f"no config is named {name!r}, there are {', '.join(shipped)} (see `gdt configs`). "
            "The name of a file ends in .toml"
        )
    path = Path(name)
    if not path.exists():
        hint = f". `{path.stem}` alone is the one that comes along" if path.stem in shipped else ""
        raise ConfigError(f"{path}: cannot read this config: No such file or directory{hint}")
    return path


def read_tables(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The tables of a TOML file with overrides applied, unchecked.

    Raises:
        ConfigError: the file cannot be read, or is not TOML, or an override is not one.
    """
    try:
        tables = parse_toml(read_small(path).decode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read this config: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    apply_overrides(tables, overrides)
    return tables


def apply_overrides(tables: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set keys of nested tables to the values of "a.b=c", in place; plan=NAME names a plan.

    Raises:
        ConfigError: an override that is not KEY=VALUE, or goes through what is not a table.
    """
    for override in overrides:
        _apply(tables, override)
        refuse_unknown_key(override)


def refuse_unknown_key(override: str) -> None:
    """Refuse "a.b=c" where no config has a key a.b; without the option classes, which need torch.

    Raises:
        ConfigError: there is no such key.
    """
    asked = [key.strip() for key in override.partition("=")[0].split(".")]
    if asked[0] in RENAMED or ".".join(asked) in RENAMED:
        return  # the whole config says what took its place
    known = [line.split(".") for line in KEYS.read_text().splitlines() if line[:1].isalpha()]
    for depth, key in enumerate(asked):
        allowed = list(dict.fromkeys(line[depth] for line in known if len(line) > depth))
        if not allowed:
            return  # within a value that is a table of its own
        known = [
            line
            for line in known
            if len(line) > depth and (line[depth] == key or _is_open(line[depth]))
        ]
        if not known:
            close = difflib.get_close_matches(key, allowed, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            table = f"[{'.'.join(asked[:depth])}]" if depth else "the top level"
            raise ConfigError(
                f"--set {override}: unknown key {'.'.join(asked[: depth + 1])}{hint}; {table} "
                f"takes {', '.join(allowed)}"
            )


def _is_open(name: str) -> bool:
    """Whether a name stands for names of one's own."""
    return name.isupper()


def _apply(tables: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = [key.strip() for key in dotted.split(".")]
    if not equals or not all(keys):
        raise ConfigError(
            f"--set {override}: must be KEY=VALUE with a dotted key, like trainer.epochs=5"
        )
    try:
        value = parse_toml(f"value = {text}")["value"]
    except ValueError:
        value = text
    table = tables
    for depth, key in enumerate(keys[:-1], start=1):
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {'.'.join(keys[:depth])} is not a table")
    is_plan_name = keys == ["plan"] and isinstance(value, str)
    table[keys[-1]] = {"name": value} if is_plan_name else value
