"""The `gdt` command: each sub-command is one module, which imports heavy libraries only as it runs.

An error that a person can fix ends as one message and an exit status: 2 for a config or an
argument, 1 for anything else. Every other exception is a bug, and keeps its traceback.
"""

import os
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from tools.commands import (
    bench,
    caption,
    configs,
    evaluate,
    export,
    finetune,
    plan,
    pretrain,
    propagate,
    runs,
    samples,
    search,
    shards,
    sts,
    tokenizer,
    world_model,
)
from tools.commands.group import CommandGroup, command
from tools.say import guard_python, say

#: Errors whose message is written for the person at the keyboard, by name: naming them imports
#: nothing. Subclasses count.
USER_ERRORS: Final[dict[str, int]] = {
    "tools.runs.config_files.ConfigError": 2,
    "tools.evaluation.errors.EvaluationError": 2,
    "tools.runs.run_folder.RunError": 1,
    "tools.runs.losses.LossFileError": 1,
    "tools.training.finite.TrainingError": 1,
    "models.encoder_file.EncoderFileError": 1,
    "shards.errors.ShardError": 1,
    "pipelines.skips.SkipError": 1,
    "pipelines.skips.MismatchError": 2,
    "pipelines.skips.TooManySkipsError": 1,
    "pipelines.loading.stream.StateError": 1,
}

# OpenMP's threads spin while they wait for each other, and cost several times the work itself where
# decoding threads (or other programs) want the same cores. Read when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Decoding threads come back from the codec every few microseconds, and wait this long at most for
# one that does not: a tenth more segments a second with two threads than with Python's 5 ms.
sys.setswitchinterval(5e-4)


#: The packages of this program; `python -m` and worker processes find them by these names.
PACKAGES: Final = ("shards", "gdt", "pipelines", "models", "tools")


class ErrorBoundary(CommandGroup):
    """Ends a command that raised one of `USER_ERRORS` with its message alone."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            statuses = [
                USER_ERRORS[name]
                for name in (f"{c.__module__}.{c.__qualname__}" for c in type(error).__mro__)
                if name in USER_ERRORS
            ]
            if not statuses:
                raise
            _print_error(str(error))
            raise typer.Exit(statuses[0]) from error


app = typer.Typer(
    name="gdt",
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audio-visual self-supervision as a streaming data pipeline.",
    epilog="\n\n".join(
        [
            "From videos to retrieval numbers:",
            "gdt shards build videos/ --out data/shards --holdout 0.2",
            "gdt pretrain demo --set data.shards=data/shards/train --out runs/first",
            "gdt evaluate retrieval --run runs/first --shards data/shards/val",
        ]
    ),
)
app.add_typer(samples.app, name="samples")
app.add_typer(shards.app, name="shards")
app.add_typer(configs.app, name="configs")
app.add_typer(plan.app, name="plan")
app.add_typer(tokenizer.app, name="tokenizer")
command(app, "pretrain", *pretrain.EXAMPLES)(pretrain.pretrain)
command(app, "finetune", *finetune.EXAMPLES)(finetune.finetune)
command(evaluate.app, "propagate", *propagate.EXAMPLES)(propagate.propagate)
command(evaluate.app, "sts", *sts.EXAMPLES)(sts.sts)
command(evaluate.app, "world-model", *world_model.EXAMPLES)(world_model.world_model)
app.add_typer(evaluate.app, name="evaluate")
command(app, "runs", *runs.RUNS_EXAMPLES)(runs.runs)
command(app, "export", *export.EXAMPLES)(export.export)
command(app, "caption", *caption.EXAMPLES)(caption.caption)
command(app, "compare", *runs.COMPARE_EXAMPLES)(runs.compare)
command(app, "embed", *search.EMBED_EXAMPLES)(search.embed)
command(app, "search", *search.SEARCH_EXAMPLES)(search.search)
command(app, "serve", *search.SERVE_EXAMPLES)(search.serve)
app.add_typer(bench.app, name="bench")


def _print_version(asked: bool) -> None:
    if asked:
        say(f"gdt-stream {version('gdt-stream')}")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Take the options of `gdt` itself; each acts when it is read."""


def main() -> None:
    """Run the command, unless Python would import another package in place of one of ours."""
    guard_python()
    if found := shadowed():
        _print_error(found)
        raise SystemExit(1)
    app()


def shadowed() -> str | None:
    """Name the file that Python imports in place of one of our packages; None where none does."""
    root = Path(__file__).parents[1]
    for name in PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        place = next((Path(p) for p in places if p is not None), None)
        ours = root / name / "__init__.py"
        if place is not None and place.resolve() != ours.resolve():
            return (
                f"{place} shadows {ours}: Python finds it first, and would import it as "
                f"{name!r}. Rename it, or take its folder off the path (PYTHONPATH, or the folder "
                "that the command runs in)"
            )
    return None


def _print_error(message: str) -> None:
    from tools.terminal import Terminal

    console = Terminal(stderr=True)
    console.print("error:", style="bold red", end=" ")
    console.say(message)
