"""A progress bar on standard error, removed when the work is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(
    description: str, *, in_bytes: bool = False
) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar; yield a function that takes how much is done and the total (None: unknown)."""
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn

    from tools.terminal import Terminal

    amount = DownloadColumn() if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), amount)
    with Progress(*columns, console=Terminal(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def build_progress() -> Iterator[Callable[[str, int, int | None], None]]:
    """Show the two stages of a build ("probe", then "build"), as `shards.building.build` says them.

    Yields what is told the stage, how much of it is done, and of how much.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from tools.terminal import Terminal

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    console = Terminal(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        tasks = {
            "probe": bar.add_task("reading headers of files", total=None),
            "build": bar.add_task("encoding clips", total=None, visible=False),
        }

        def progress(stage: str, done: int, total: int | None) -> None:
            if stage == "build":
                bar.update(tasks["probe"], visible=False)
            bar.update(tasks[stage], completed=done, total=total, visible=True)

        yield progress
