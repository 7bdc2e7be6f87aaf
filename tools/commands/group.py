"""How a group of commands looks: help without arguments, flags without a type, an example each."""

from collections.abc import Callable
from typing import Any, TypeVar

import typer
import typer.core

Function = TypeVar("Function", bound=Callable[..., None])


class Command(typer.core.TyperCommand):
    """A command whose flags are shown as flags: `--resume`, not `--resume <bool>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, and the type that help shows for each."""
        return _without_types_of_flags(super().get_params(ctx))


class CommandGroup(typer.core.TyperGroup):
    """The same for a group's own parameters."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, and the type that help shows for each."""
        return _without_types_of_flags(super().get_params(ctx))


def group(about: str) -> typer.Typer:
    """A group of commands that is a group even with one command in it."""
    app = typer.Typer(cls=CommandGroup, no_args_is_help=True, help=about)
    app.callback()(lambda: None)
    return app


def command(app: typer.Typer, name: str, *examples: str) -> Callable[[Function], Function]:
    """A decorator that adds a function to `app` as a command, with examples at the end of its help.

    Args:
        app: the group.
        name: what is typed.
        examples: command lines, each of which has to be a valid one.
    """
    return app.command(name, cls=Command, epilog="\n\n".join(["For example:", *examples]))


def _without_types_of_flags(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters
