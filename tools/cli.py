"""The `gdt` command: each sub-command is one module, and imports what is heavy only when it runs.

What a person can put right ends as one message and an exit status: 2 for a config or an argument,
1 for anything else. Every other exception is a bug, and keeps its traceback.
"""

import os
import sys
from typing import Any, Final

import typer
import typer.core

from tools.commands import bench, evaluate, plan, pretrain, samples, shards

#: Errors whose message is written for the person at the keyboard, by name: naming them imports
#: nothing. Subclasses count.
USER_ERRORS: Final[dict[str, int]] = {
    "tools.runs.config.ConfigError": 2,
    "tools.evaluation.knn_report.KnnError": 2,
    "tools.runs.run_folder.RunError": 1,
    "tools.runs.losses.LossFileError": 1,
    "tools.training.fit.TrainingError": 1,
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


class ErrorBoundary(typer.core.TyperGroup):
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
            from rich.console import Console

            console = Console(file=sys.stderr)
            console.print("error:", style="bold red", end=" ")
            console.print(str(error), markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(statuses[0]) from error


app = typer.Typer(
    name="gdt",
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audio-visual self-supervision as a streaming data pipeline.",
)
app.add_typer(samples.app, name="samples")
app.add_typer(shards.app, name="shards")
app.add_typer(plan.app, name="plan")
app.command("pretrain")(pretrain.pretrain)
app.add_typer(evaluate.app, name="evaluate")
app.add_typer(bench.app, name="bench")
