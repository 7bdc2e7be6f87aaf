"""`gdt runs` and `gdt compare`: which runs there are, how they stand, and how they differ."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tools.say import say

if TYPE_CHECKING:
    from tools.runs.overview import RunOverview

RUNS_EXAMPLES: Final = ("gdt runs", "gdt runs /data/runs --json")
COMPARE_EXAMPLES: Final = ("gdt compare runs/first runs/second --out compare.png",)


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder of runs.")] = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON in place of a table.")
    ] = False,
) -> None:
    """List runs: how they stand, and their numbers."""
    from tools.runs.overview import find_runs, overview
    from tools.runs.run_folder import RunError

    found = [overview(path) for path in find_runs(folder)]
    if not found:
        raise RunError(f"{folder} holds no run: give a folder that `gdt pretrain --out` wrote to")
    _print(found, as_json=as_json)


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, two or more.")],
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("compare.png"),
) -> None:
    """Draw the losses and validation scores of runs, and say in which keys they differ."""
    from rich.table import Table

    from tools.display.run_curves import RunCurves, draw_runs
    from tools.runs.config import flattened
    from tools.runs.config_files import read_tables
    from tools.runs.overview import overview
    from tools.runs.run_folder import RunError
    from tools.terminal import Terminal

    if len(runs) < 2:
        raise RunError(f"only {runs[0]} is given: name two runs or more to compare")
    found = [overview(path) for path in runs]
    names = _names(runs)
    _print(found, as_json=False)
    configs = [dict(flattened(read_tables(path / "config.toml"))) for path in runs]
    table = Table("key", *names, box=None, pad_edge=False)
    for key in sorted(set().union(*configs)):
        values = [str(config.get(key, "")) for config in configs]
        if len(set(values)) > 1:
            table.add_row(key, *values)
    console = Terminal()
    if table.row_count:
        console.print(table)
    else:
        console.print("their configs are the same")
    draw_runs(
        [
            RunCurves(
                name,
                [(row.step, row.loss) for row in run.losses],
                [(score.step, score.value) for score in run.validation],
            )
            for name, run in zip(names, found, strict=True)
        ],
        out,
    )
    console.say(f"picture     {out}")


def _names(paths: list[Path]) -> list[str]:
    """Short names that tell the runs apart."""
    shared = os.path.commonpath([path.resolve().parent for path in paths])
    return [str(path.resolve().relative_to(shared)) for path in paths]


def _print(found: "list[RunOverview]", *, as_json: bool) -> None:
    from rich.table import Table

    from tools.terminal import Terminal

    if as_json:
        say(json.dumps([_as_json(run) for run in found], indent=2, ensure_ascii=False))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "state", "step", "loss", "validation", "evaluated"):
        table.add_column(name, justify="right" if name in ("step", "loss") else "left")
    for run in found:
        best = run.best
        table.add_row(
            str(run.path),
            run.state,
            "" if run.step is None else f"{run.step}" + f"/{run.num_steps}" * bool(run.num_steps),
            "" if run.loss is None else f"{run.loss:.3f}",
            "" if best is None else f"{best.value:.3f} after step {best.step}",
            "\n".join(f"{name}: {value}" for name, value in run.results.items()),
        )
    console = Terminal()
    console.print(table)
    for run in found:
        if run.reason and run.state != "running":
            console.say(f"{run.path}: {run.reason}")


def _as_json(run: "RunOverview") -> dict[str, Any]:
    return {
        "run": str(run.path),
        "state": run.state,
        "step": run.step,
        "num_steps": run.num_steps,
        "reason": run.reason,
        "loss": run.loss,
        "validation": None if run.best is None else run.best._asdict(),
        "results": run.results,
    }
