"""A run's configuration: a TOML file into frozen, strict tables, each an option class of its room.

    TOML text ─► tables ─► `--set a.b=c` ─► Config (checked) ─► Config.to_toml() ─► RUN/config.toml

An unknown or ill-typed key ends in a `ConfigError` that names file and key, what was got and what
is allowed. What `to_toml` writes loads to an equal Config.
"""

import dataclasses
import difflib
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from gdt.plan import Plan
from models import METHODS, EncoderOptions, MethodOptions
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.options import AudioAugment, ImageAugment, LogMel, Text, VideoAugment
from pipelines.device.picture_options import CHANNELS
from tools.runs.config_files import RENAMED, ConfigError, apply_overrides, read_tables
from tools.runs.options import (
    DataOptions,
    OptimizerOptions,
    TrainerOptions,
    ValidationOptions,
)
from tools.runs.toml_text import toml_text

__all__ = [
    "Config",
    "ConfigError",
    "as_config_errors",
    "config_of",
    "differing_keys",
    "load_config",
    "load_named_plan",
]

if typing.TYPE_CHECKING:
    MethodTable = MethodOptions
else:  # `name` says which method's options the table holds, and so which keys it takes
    _EITHER = reduce(or_, [method.options_type for method in METHODS.values()])
    MethodTable = Annotated[_EITHER, Field(discriminator="name")]


@contextmanager
def as_config_errors(*refusals: type[Exception]) -> Iterator[None]:
    """Re-raise errors from building the pipeline, and `refusals`, as ConfigError.

    Raises:
        ConfigError: the data set or this machine does not have what the config asks for.
    """
    kinds: tuple[type[Exception], ...] = (ValueError, ImportError, *refusals)
    try:
        yield
    except kinds as error:
        raise ConfigError(f"the config asks for what cannot be had: {error}") from error


class Config(BaseModel):
    """Everything a run depends on, one attribute per table of the file.

    Attributes:
        seed: of the initial weights, the order of the samples and every random draw.
        plan: factor → its table, and the name of a published plan; `build_plan` gives the object.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    seed: int = Field(default=0, ge=0, lt=2**63)
    data: DataOptions
    segment: SegmentOptions = SegmentOptions()
    plan: dict[str, Any]
    video_augment: VideoAugment = VideoAugment()
    audio_augment: AudioAugment = AudioAugment()
    image_augment: ImageAugment = ImageAugment()
    log_mel: LogMel = LogMel()
    text: Text = Text()
    method: MethodTable
    encoders: EncoderOptions = EncoderOptions()
    optimizer: OptimizerOptions
    trainer: TrainerOptions
    validation: ValidationOptions = ValidationOptions()

    _plan: Plan = PrivateAttr()

    @model_validator(mode="after")
    def _parse_plan(self) -> Self:
        try:
            self._plan = Plan.from_tables(self.plan)
        except ValueError as error:
            text = str(error)
            raise ValueError(text if text.startswith("[") else f"[plan]: {text}") from error
        return self

    @model_validator(mode="after")
    def _check_channels(self) -> Self:
        needs = METHODS[self.method.name].needs
        for modality, count in (("video", 3), ("image", self.encoders.image_channels)):
            table = f"{modality}_augment"
            augment: VideoAugment = getattr(self, table)
            asked = [augment.channels, *(v.get("channels", "") for v in augment.views)]
            for channels in filter(None, asked if modality in self._plan.modalities else ()):
                if needs.lab and channels != "lab":
                    raise ValueError(
                        f'[{table}]: channels = "{channels}", and {needs.why}: it takes L, a and '
                        'b, so set channels = "lab" with the mean and std of those'
                    )
                if CHANNELS[channels] != count:
                    raise ValueError(
                        f'[{table}]: channels = "{channels}" are {CHANNELS[channels]}, and the '
                        f"{modality} encoder takes {count}: set other channels or, of images, "
                        "encoders.image_channels"
                    )
        return self

    def build_plan(self) -> Plan:
        """The plan that the `[plan]` tables state; it was parsed when they were checked."""
        return self._plan

    def to_tables(self) -> dict[str, Any]:
        """Nested dictionaries of plain values, as in the TOML file, defaults filled in."""
        tables: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return tables

    def to_toml(self) -> str:
        """The config as TOML, defaults filled in."""
        return toml_text(self.to_tables())


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a config.

    Args:
        path: TOML file.
        overrides: "a.b=c": key b of table [a] becomes c, which is read as a TOML value, or as a
            string where it is not one.

    Raises:
        ConfigError: no such file, not TOML, an unknown, missing or ill-typed key, a refused value.
    """
    return config_of(read_tables(path), path, overrides)


def config_of(tables: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Check nested tables as `load_config` checks a file's.

    Args:
        tables: as a TOML file would give them.
        path: where they come from: messages name it, and files are relative to its folder.
        overrides: see `load_config`.

    Raises:
        ConfigError: an unknown, missing or ill-typed key, a refused value.
    """
    apply_overrides(tables, overrides)
    _refuse_renamed(tables, path)
    _anchor_table_files(tables, path.parent)
    try:
        # through JSON, where strict mode takes a list for a tuple and nothing else
        return Config.model_validate_json(json.dumps(tables, default=str))
    except ValidationError as error:
        problems = [_explain(details, overrides) for details in error.errors()]
        raise ConfigError("\n".join(f"{path}: {problem}" for problem in problems)) from error


def load_named_plan(name: str, overrides: Sequence[str] = ()) -> Plan:
    """A published plan, with keys of its own changed.

    Raises:
        ConfigError: no plan has this name, or an override that it refuses.
    """
    tables: dict[str, Any] = {"plan": {"name": name}}
    apply_overrides(tables, overrides)
    if len(tables) > 1:
        raise ConfigError(f"{name} is a plan and no config: --set takes keys of [plan] here")
    try:
        return Plan.from_tables(tables["plan"])
    except ValueError as error:
        raise ConfigError(str(error)) from error


def differing_keys(ours: Config, theirs: Config) -> list[str]:
    """Dotted keys in which two configs differ, each with both values: "a.b: 1, was 2"."""
    flat_ours, flat_theirs = (dict(flattened(c.to_tables())) for c in (ours, theirs))
    return [
        f"{key}: {flat_ours.get(key, 'not set')!r}, was {flat_theirs.get(key, 'not set')!r}"
        for key in sorted({*flat_ours, *flat_theirs})
        if flat_ours.get(key) != flat_theirs.get(key)
    ]


def flattened(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, Any]]:
    """The values of nested tables with their dotted keys."""
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            pairs += flattened(value, (*path, key))
        else:
            pairs.append((".".join((*path, key)), value))
    return pairs


def _anchor_table_files(tables: dict[str, Any], folder: Path) -> None:
    """Make the plan's table files absolute: they are named relative to the config's folder."""
    plan = tables.get("plan")
    for table in plan.values() if isinstance(plan, dict) else ():
        for key, name in table.items() if isinstance(table, dict) else ():
            if key.endswith("_file") and isinstance(name, str):
                table[key] = str((folder / name).resolve())


def _refuse_renamed(tables: Mapping[str, Any], path: Path) -> None:
    """Raise ConfigError for keys of earlier versions, naming what took their place."""
    given = {*tables, *(key for key, _ in flattened(tables))}
    renamed = [f"{key} is now {new}" for key, new in RENAMED.items() if key in given]
    if renamed:
        raise ConfigError(f"{path} was written for an earlier version: {'; '.join(renamed)}")


def _explain(details: ErrorDetails, overrides: Sequence[str]) -> str:
    location = [part for part in details["loc"] if isinstance(part, str)]
    if details["type"] in ("union_tag_invalid", "union_tag_not_found"):
        asked = details["input"].get("name") if isinstance(details["input"], dict) else None
        got = "it is missing" if asked is None else f"got {_shown(asked)}"
        return f"[method]: name must be one of {', '.join(METHODS)}; {got}"
    method = None
    if location[:1] == ["method"] and len(location) > 1:
        method = location.pop(1)  # pydantic names the branch of the union
    # pydantic appends the branch of a union ("int", "literal['auto']"): not a part of the key
    while len(location) > 1 and not _is_key(location, method):
        if details["type"] in _UNKNOWN_KEY:
            break
        location.pop()
    dotted = ".".join(location)
    source = [o for o in overrides if o.partition("=")[0].strip() == dotted]
    where = f"--set {source[-1]}: " if source else ""
    if details["type"] in _UNKNOWN_KEY:
        allowed = _allowed_keys(location[:-1], method)
        close = difflib.get_close_matches(location[-1], allowed, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        owners = _methods_with(location[-1]) if method else []
        if owners:
            hint = f" (it belongs to {', '.join(owners)}, and name is {method})"
        table = f"[{'.'.join(location[:-1])}]" if len(location) > 1 else "the top level"
        return f"{where}unknown key {dotted}{hint}; {table} takes {', '.join(allowed)}"
    if details["type"] == "missing":
        return f"{where}key {dotted} is missing: it has no default"
    if details["type"] == "value_error":
        error = str(details["ctx"]["error"])
        return where + (error if error.startswith("[") else f"[{dotted}]: {error}")
    message = details["msg"].removeprefix("Input should be ")
    return f"{where}{dotted} = {_shown(details['input'])}, must be {message}"


_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _methods_with(key: str) -> list[str]:
    return [name for name, method in METHODS.items() if key in _fields(method.options_type)]


def _allowed_keys(location: Sequence[str], method: str | None = None) -> list[str]:
    """The keys of the table at `location`, empty where it is no table of options."""
    return list(_fields(_annotation(location, method)))


def _is_key(location: Sequence[str], method: str | None = None) -> bool:
    table = _annotation(location[:-1], method)
    return typing.get_origin(table) is dict or location[-1] in _fields(table)


def _annotation(location: Sequence[str], method: str | None = None) -> Any:
    """What kind of thing the config holds at `location`; `method` is the name in [method]."""
    found: Any = Config
    for key in location:
        if typing.get_origin(found) is dict:  # tables under names of one's own: [data.mix.NAME]
            found = typing.get_args(found)[1]
        else:
            found = _fields(found).get(key)
        if key == "method" and method in METHODS:
            found = METHODS[method].options_type
    return found


def _fields(table: Any) -> dict[str, Any]:
    if isinstance(table, type) and issubclass(table, BaseModel):
        return {name: field.annotation for name, field in table.model_fields.items()}
    if isinstance(table, type) and dataclasses.is_dataclass(table):
        hints = typing.get_type_hints(table)
        return {field.name: hints[field.name] for field in dataclasses.fields(table) if field.init}
    return {}
