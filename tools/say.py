"""What a command prints as it is: every line of it goes through here, or through terminal.py.

Neither prints a character that could steer a terminal; `tests/tools/test_terminal.py` sees that
nobody else prints.
"""

import sys
import threading
import traceback
import warnings
from typing import Any

import typer


def say(text: object, err: bool = False, nl: bool = True) -> None:
    """Print text on standard output, or on standard error where `err`."""
    typer.echo(_shown(f"{text}"), err=err, nl=nl)


def guard_python() -> None:
    """See that warnings, and tracebacks of bugs, which may repeat names, are printed so too."""
    plain = warnings.formatwarning

    def formatwarning(*arguments: Any, **options: Any) -> str:
        return _shown(plain(*arguments, **options))

    warnings.formatwarning = formatwarning
    sys.excepthook = _print_traceback
    threading.excepthook = lambda of: _print_traceback(of.exc_type, of.exc_value, of.exc_traceback)


def _shown(text: str) -> str:
    from shards.shown import shown_lines  # here: shards imports numpy, which help does not need

    return shown_lines(text)


def _print_traceback(_kind: Any, error: BaseException | None, _trace: Any) -> None:
    if error is not None and not isinstance(error, SystemExit):
        say("".join(traceback.format_exception(error)), err=True, nl=False)
