"""`gdt evaluate propagate`: labels of a first frame, carried through clips by what looks alike."""

from pathlib import Path
from typing import Annotated, Final

import typer

from tools.say import say

EXAMPLES: Final = (
    "gdt evaluate propagate --run runs/crw --clips data/shapes --stages 3",
    "gdt evaluate propagate --run runs/dino --clips DAVIS --recipe dino",
)


def propagate(
    run: Annotated[Path, typer.Option(help="Run folder of `gdt pretrain`.")],
    clips: Annotated[Path, typer.Option(help="Folder of clips whose first frame is labelled.")],
    layout: Annotated[str, typer.Option(help="Whose folders: davis, vip or jhmdb.")] = "davis",
    split: Annotated[str, typer.Option(help="Which list of clips.")] = "val",
    recipe: Annotated[
        str, typer.Option(help="How labels are carried on: videowalk or dino.")
    ] = "videowalk",
    top_k: Annotated[int | None, typer.Option(help="Matches that count, not the recipe's.")] = None,
    radius: Annotated[float | None, typer.Option(help="How far they may be, in cells.")] = None,
    previous: Annotated[int | None, typer.Option(help="Earlier frames remembered.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of the cosines.")] = None,
    short_side: Annotated[int | None, typer.Option(help="Scale frames to it, pixels.")] = None,
    stages: Annotated[
        int | None, typer.Option(min=1, max=4, help="Of a ResNet: take the map after so many.")
    ] = None,
    map_stride: Annotated[
        int | None, typer.Option(help="Of a ResNet: pixels of a cell, by leaving strides out.")
    ] = None,
    modality: Annotated[str | None, typer.Option(help="Whose encoder: video or image.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the results; one of their own in RUN/evaluation if absent."),
    ] = None,
    untrained: Annotated[
        bool, typer.Option(help="Score the encoder as it was before its first step, too.")
    ] = True,
    colors: Annotated[
        bool, typer.Option(help="Score matching by colour, and labels that stay, too.")
    ] = True,
    pictures: Annotated[int, typer.Option(min=0, help="How many clips to draw.")] = 3,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto.")] = "auto",
) -> None:
    """Carry masks, body parts or joints of a first frame through clips, by what looks alike."""
    from tools.display.progress_bar import progress_bar
    from tools.evaluation.result import print_evaluation
    from tools.propagation.evaluate import PropagationRequest, evaluate_propagation
    from tools.propagation.recipe import recipe_named

    changed = recipe_named(recipe).changed(
        top_k=top_k,
        radius=radius,
        num_previous=previous,
        temperature=temperature,
        short_side=short_side,
    )
    request = PropagationRequest(
        run=run,
        clips=clips,
        layout=layout,
        split=split,
        recipe=changed,
        modality=modality,
        num_stages=stages,
        map_stride=map_stride,
        untrained=untrained,
        colors=colors,
        out=out,
        pictures=pictures,
        device=device,
    )
    with progress_bar("propagating labels") as progress:
        found = evaluate_propagation(request, progress)
    print_evaluation(found.result, "Label propagation", found.out)
    if found.picture is not None:
        say(f"{'picture':<11} {found.picture}")
