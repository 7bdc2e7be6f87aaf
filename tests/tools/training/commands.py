"""`gdt` in processes of their own, that start with the slow imports behind them."""

import multiprocessing
import os
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from tools.runs.losses import read_losses


def forkserver(*preload: str) -> ForkServerContext:
    """Where processes come from; tests of one session share it, and its first preload."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.training.fit", "tools.display.pictures", *preload])
    return context


def gdt(arguments: list[str], output: Path, environment: Mapping[str, str]) -> None:
    """One command, all that it prints in a file; for a child process."""
    from tools.cli import app

    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    app(arguments)


def start(*arguments: object, output: Path, **environment: str) -> ForkServerProcess:
    """Begin a command."""
    words = [str(argument) for argument in arguments]
    process = forkserver().Process(target=gdt, args=(words, output, environment))
    process.start()
    return process


def wait_for_step(process: ForkServerProcess, run: Path, step: int) -> None:
    """Return when the run has logged a step."""
    while not any(row.step >= step for row in read_losses(run)):
        assert process.is_alive(), "it ended before that"
        time.sleep(0.01)


def children_of(pid: int) -> list[int]:
    """Process ids, oldest first."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]
