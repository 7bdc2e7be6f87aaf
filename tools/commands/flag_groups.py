"""Flags in groups: a parameter that is a dataclass becomes one flag for each of its fields."""

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints


def with_flag_groups(function: Callable[..., None]) -> Callable[..., None]:
    """The same command for typer, its dataclasses taken apart into flags and put together again.

    Fields are annotated as typer's parameters are. The first line of a class's docstring is the
    title that its flags stand under in the help.
    """
    hints = get_type_hints(function, include_extras=True)
    kinds: dict[str, type[Any]] = {
        name: kind for name, kind in hints.items() if inspect.isclass(kind) and is_dataclass(kind)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in kinds:
            parameters += _flags(kinds[parameter.name])
        else:
            annotation = hints[parameter.name]
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=annotation, kind=kind))

    @wraps(function)
    def command(**given: Any) -> None:
        groups = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})
            for name, kind in kinds.items()
        }
        function(**given, **groups)

    command.__annotations__ = {p.name: p.annotation for p in parameters}
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _flags(kind: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    title = (kind.__doc__ or "").partition("\n")[0].rstrip(".")
    flags = []
    for field in fields(kind):
        plain, flag = get_args(hints[field.name])
        titled = copy(flag)
        titled.rich_help_panel = title
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        flags.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[plain, titled],
            )
        )
    return flags
