"""`gdt evaluate world-model`: what a C-SWM run foretells of objects, some actions ahead."""

from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLES: Final = ("gdt evaluate world-model --run runs/cswm --shards data/shards/blocks/val",)


def world_model(
    run: Annotated[Path, typer.Option(help="Run folder of `gdt pretrain cswm`.")],
    shards: Annotated[str, typer.Option(help="Data set of episodes with actions.")],
    steps: Annotated[str, typer.Option(help="How many actions ahead, commas between.")] = "1,5,10",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; one of their own in RUN/evaluation if absent."),
    ] = None,
    untrained: Annotated[
        bool, typer.Option(help="Score the model as it was before its first step, too.")
    ] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips decoded together.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Threads that decode.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Find each clip's state among those that are foretold for all, some actions ahead."""
    from tools.commands.label_tasks import parse_counts
    from tools.evaluation.result import print_evaluation
    from tools.evaluation.world_model import WorldModelRequest, evaluate_world_model

    request = WorldModelRequest(
        run=run,
        shards=shards,
        steps=parse_counts("--steps", steps),
        untrained=untrained,
        out=out,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )
    result, folder = evaluate_world_model(request)
    print_evaluation(result, "World model", folder)
