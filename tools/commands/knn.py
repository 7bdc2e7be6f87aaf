"""`gdt evaluate knn`: do frozen features tell the labels of a data set apart?"""

from pathlib import Path
from typing import Annotated

import typer


def knn(
    run: Annotated[Path, typer.Option(help="Run folder of `gdt pretrain`.")],
    train: Annotated[str, typer.Option(help="Shards whose clips vote; built with --labels.")],
    test: Annotated[str, typer.Option(help="Shards whose labels are to be found.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; RUN/knn if absent.")
    ] = None,
    k: Annotated[
        str, typer.Option(help="How many neighbours vote; several with commas between.")
    ] = "1,5,20",
    segments: Annotated[int, typer.Option(min=1, help="Segments averaged a clip.")] = 4,
    batch_size: Annotated[int, typer.Option(min=1, help="Clips encoded together.")] = 32,
    threads: Annotated[int, typer.Option(min=1, help="Decoding threads.")] = 2,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Find labels by the nearest neighbours of frozen features, beside an untrained encoder."""
    ks = parse_ks(k)
    from tools.evaluation.knn_report import evaluate_knn, print_report

    result = evaluate_knn(
        run,
        train,
        test,
        out or run / "knn",
        ks=ks,
        segments_per_clip=segments,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )
    print_report(result)


def parse_ks(text: str) -> tuple[int, ...]:
    """Return the numbers of "1,5,20".

    Raises:
        typer.BadParameter: something else.
    """
    try:
        ks = tuple(int(part) for part in text.split(","))
    except ValueError:
        ks = ()
    if not ks or min(ks) < 1:
        raise typer.BadParameter(
            f"--k {text}: must be whole numbers from 1 on with commas between, like 1,5,20"
        )
    return ks
