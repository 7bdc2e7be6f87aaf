"""`gdt export`: one encoder of a run, to use elsewhere."""

from pathlib import Path
from typing import Annotated, Final

import typer

from tools.say import say

EXAMPLES: Final = (
    "gdt export runs/first --modality video --out encoder.safetensors",
    "gdt export runs/first --modality audio --out audio.onnx --checkpoint best",
)


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of `gdt pretrain`.")],
    modality: Annotated[str, typer.Option(help="Whose encoder: video, audio, image or text.")],
    out: Annotated[
        Path, typer.Option(help=".safetensors for weights, .pt2 for torch.export, .onnx for ONNX.")
    ],
    checkpoint: Annotated[
        str, typer.Option(help="last, best by validation, or the number of a kept step.")
    ] = "last",
) -> None:
    """Write an encoder's weights under torchvision's names, or its graph, and a card."""
    from tools.runs.export import beyond_encoder, export_encoder
    from tools.runs.run import load_run

    loaded = load_run(run, checkpoint=checkpoint)
    for path in export_encoder(loaded, modality, out):
        say(path)
    if loaded.method.beyond_encoder:
        say(f"note: {beyond_encoder(loaded)}")
