"""`gdt evaluate sts`: how well cosines of texts follow what people say of their meaning."""

from pathlib import Path
from typing import Annotated, Final

import typer

EXAMPLES: Final = ("gdt evaluate sts --run runs/simcse --pairs sts.tsv",)


def sts(
    run: Annotated[Path, typer.Option(help="Run folder whose plan has text.")],
    pairs: Annotated[
        Path, typer.Option(help="UTF-8, a pair a line: text, text and score, tabs between.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; one of their own in RUN/evaluation if absent."),
    ] = None,
    untrained: Annotated[
        bool, typer.Option(help="Score the encoder as it was before its first step, too.")
    ] = True,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts encoded together.")] = 64,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Correlate the cosines of two texts with how alike people find them."""
    from tools.evaluation.result import print_evaluation
    from tools.evaluation.sts import StsRequest, evaluate_sts

    request = StsRequest(
        run=run, pairs=pairs, untrained=untrained, out=out, batch_size=batch_size, device=device
    )
    result, folder = evaluate_sts(request)
    print_evaluation(result, "Similarity of texts", folder)
