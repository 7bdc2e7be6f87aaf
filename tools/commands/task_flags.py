"""The flags that all tasks of `gdt evaluate` have in common, and how a task is run with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tools.evaluation.runner import Outcome, Task
    from tools.runs.run import Run


@dataclass(frozen=True)
class TaskFlags:
    """Whose encoder, and how clips are embedded."""

    run: Annotated[Path, typer.Option(help="Run folder of `gdt pretrain`.")]
    modality: Annotated[
        list[str] | None,
        typer.Option(help="Score this modality alone; clips need no other. May be repeated."),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; one of their own in RUN/evaluation if absent."),
    ] = None
    batch_size: Annotated[int, typer.Option(min=1, help="Clips encoded together.")] = 16
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads.")] = 2
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto"

    def score(
        self,
        task: "Task",
        *,
        data: Mapping[str, str],
        places: Sequence[float],
        crops: int = 1,
        seconds: float | None = None,
        untrained: bool,
        default_modalities: tuple[str, ...] = (),
        loaded: "Run | None" = None,
    ) -> "Outcome":
        """Run a task, print its table.

        Args:
            task: what is scored.
            data: role → data set.
            places: where in a clip its segments start, see `Request`.
            crops: of each of them.
            seconds: of each, where not the run's.
            untrained: score the encoder before its first step, too.
            default_modalities: where none is asked for; all of the run's where that is empty.
            loaded: the run, where it is loaded already.
        """
        from tools.evaluation.result import print_evaluation
        from tools.evaluation.runner import Request, evaluate

        request = Request(
            run=self.run,
            data=data,
            modalities=tuple(self.modality or default_modalities),
            places=tuple(places),
            crops=crops,
            seconds=seconds,
            untrained=untrained,
            out=self.out,
            batch_size=self.batch_size,
            threads=self.threads,
            device=self.device,
        )
        outcome = evaluate(task, request, loaded)
        print_evaluation(outcome.result, task.title, outcome.out)
        return outcome
