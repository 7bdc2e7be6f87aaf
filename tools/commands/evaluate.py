"""`gdt evaluate`: what a pretrained model has learned, in numbers beside chance."""

from pathlib import Path
from typing import Annotated

import typer

from tools.commands.group import command, group
from tools.commands.knn import knn

app = group("What a model has learned, beside chance.")
command(
    app,
    "knn",
    "gdt evaluate knn --run runs/simclr --train data/shards/train --test data/shards/val",
)(knn)


@command(app, "retrieval", "gdt evaluate retrieval --run runs/first --shards data/shards/val")
def retrieval(
    run: Annotated[Path, typer.Option(help="Run folder of `gdt pretrain`.")],
    shards: Annotated[str, typer.Option(help="Folder or URL of shards it did not train on.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; RUN/retrieval if absent.")
    ] = None,
    segments: Annotated[int, typer.Option(min=1, help="Segments averaged a clip.")] = 5,
    queries: Annotated[int, typer.Option(min=1, help="Queries a direction on the page.")] = 12,
    hits: Annotated[int, typer.Option(min=1, help="Top hits of each query on the page.")] = 5,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips embedded together.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Find the video for a sound and the sound for a video, among all clips of a data set."""
    from tools.evaluation.retrieval_report import evaluate_retrieval, print_report

    result = evaluate_retrieval(
        run,
        shards,
        out or run / "retrieval",
        segments_per_clip=segments,
        num_queries=queries,
        num_hits=hits,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )
    print_report(result)
