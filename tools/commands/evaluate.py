"""`gdt evaluate`: what a pretrained model has learned, in numbers beside chance."""

from pathlib import Path
from typing import Annotated

import typer

from tools.commands.flag_groups import with_flag_groups
from tools.commands.group import command, group
from tools.commands.label_tasks import TASKS
from tools.commands.task_flags import TaskFlags
from tools.say import say

app = group("What a model has learned, beside chance.")

for task, (function, examples) in TASKS.items():
    command(app, task, *examples)(with_flag_groups(function))


@command(
    app,
    "retrieval",
    "gdt evaluate retrieval --run runs/first --shards data/shards/val",
    "gdt evaluate retrieval --run runs/first --train ucf/train --test ucf/test --protocol selavi",
)
@with_flag_groups
def retrieval(
    flags: TaskFlags,
    shards: Annotated[
        str | None, typer.Option(help="Data set whose clips look for each other.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="In its place: the gallery,")] = None,
    test: Annotated[
        str | None, typer.Option(help="and the queries, which look for labels.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="A preset (see `gdt evaluate protocols`) or a TOML file.")
    ] = "default",
    keys: Annotated[
        Path | None,
        typer.Option("--list", help="Text file: keys of the clips to take, one a line."),
    ] = None,
    segments: Annotated[
        int | None, typer.Option(min=1, help="Segments a clip, in place of the protocol's.")
    ] = None,
    faiss: Annotated[
        str, typer.Option(help="R@k by flat, ivf, hnsw or auto beside the exact; none: that alone.")
    ] = "none",
    queries: Annotated[int, typer.Option(min=1, help="Queries a direction on the page.")] = 12,
    hits: Annotated[int, typer.Option(min=1, help="Top hits of each query on the page.")] = 5,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Run folder whose results the page shows beside.")
    ] = None,
    untrained: Annotated[
        bool, typer.Option(help="Score the encoder as it was before its first step, too.")
    ] = True,
) -> None:
    """Find the video for a sound, the sound for a video, and clips of the same label."""
    from tools.evaluation.protocol import load_protocol, read_gallery_list, with_segments
    from tools.evaluation.retrieval_report import write_page
    from tools.evaluation.runner import roles_of
    from tools.evaluation.tasks.retrieval import Retrieval
    from tools.runs.run import choose_device

    chosen = with_segments(load_protocol(protocol), segments)
    listed = None if keys is None else read_gallery_list(keys)
    task = Retrieval(chosen, listed, choose_device(flags.device), faiss)
    outcome = flags.score(
        task,
        places=chosen.places,
        data=roles_of(train, test, shards, needs_train=False),
        untrained=untrained,
    )
    for line in chosen.lines():
        say(f"{'protocol':<11} {line}")
    page = write_page(task, outcome, num_queries=queries, num_hits=hits, beside=tuple(beside or ()))
    say(f"{'page':<11} {page}")


@command(
    app,
    "results",
    "gdt evaluate results runs/first runs/second",
)
def results(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of results.")],
) -> None:
    """Show the results of runs side by side, data set by data set."""
    from tools.evaluation.side_by_side import find_evaluations, print_side_by_side

    print_side_by_side(find_evaluations(runs))


@command(
    app,
    "protocols",
    "gdt evaluate protocols",
    "gdt evaluate protocols selavi",
)
def protocols(
    name: Annotated[str | None, typer.Argument(help="Show this one as TOML, to copy.")] = None,
) -> None:
    """Show the protocols of retrieval, and what each is."""
    from tools.evaluation.protocol import load_protocol, preset_names, protocol_text

    if name is not None:
        say(protocol_text(name), nl=False)
        return
    for preset in preset_names():
        lines = load_protocol(preset).lines()
        say("\n   ".join(lines))
