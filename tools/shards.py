"""`gdt shards`: build, verify, inspect."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Turn videos into shards, and look after them.")


@app.command()
def build(
    sources: Annotated[list[Path], typer.Argument(help="Folders of videos, or video files.")],
    out: Annotated[Path, typer.Option(help="Folder to build in; new, empty, or to continue.")],
    clip_seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 10.0,
    short_side: Annotated[
        int, typer.Option(help="Height in pixels; the width follows 16:9.")
    ] = 128,
    size: Annotated[str | None, typer.Option(help="Exact size WxH, multiples of 16.")] = None,
    fit: Annotated[str, typer.Option(help="crop (cover the size) or pad (letterbox).")] = "crop",
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 30.0,
    gop_seconds: Annotated[float, typer.Option(help="Time between keyframes.")] = 0.5,
    holdout: Annotated[float, typer.Option(help="Fraction held out: builds train and val.")] = 0.0,
    gap_seconds: Annotated[float, typer.Option(help="Time left out between train and val.")] = 10.0,
    split_by: Annotated[str, typer.Option(help="Hold out by time or by source.")] = "time",
    labels: Annotated[Path | None, typer.Option(help="CSV with columns file, label.")] = None,
    clips_per_shard: Annotated[int, typer.Option(help="Clips in a shard.")] = 256,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one per core.")] = None,
) -> None:
    """Build shards from videos; a source that cannot be used is skipped, counted and named."""
    import os

    from shards import BuildOptions, ShardError
    from shards.build import build as build_shards

    try:
        options = BuildOptions(
            clip_seconds=clip_seconds,
            short_side=short_side,
            size=_size(size),
            fit=fit,
            fps=fps,
            gop_seconds=gop_seconds,
            holdout=holdout,
            gap_seconds=gap_seconds,
            split_by=split_by,
            clips_per_shard=clips_per_shard,
        )
        summary = build_shards(
            sources, out, options, num_workers=workers or os.cpu_count() or 1, labels=labels
        )
    except ShardError as error:
        typer.echo(f"gdt shards build: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(str(summary))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise typer.BadParameter(f"--size is {text!r}; write it as WIDTHxHEIGHT, e.g. 224x128.")
    return int(width), int(height)
