"""`gdt shards`: build and index; what looks after shards is in shard_care.py."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tools.commands import shard_care
from tools.commands.group import command, group
from tools.display.progress_bar import progress_bar

if TYPE_CHECKING:
    from shards.building.engines import Engine
    from shards.building.report import BuildSummary

app = group("Turn videos into shards, and look after them.")


@command(
    app,
    "build",
    "gdt shards build videos/ --out data/shards --holdout 0.1 --gap-seconds 10",
    "gdt shards build clips.csv --out s3://bucket/shards --cut ranges --engine ray",
)
def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders of videos, files, patterns in quotes, WebDataset tars, URLs; or lists "
            "(.csv, .tsv, .jsonl, .parquet)."
        ),
    ],
    out: Annotated[
        str, typer.Option(help="Folder or URL (s3://…) to build in: new, empty, or to continue.")
    ],
    cut: Annotated[
        str,
        typer.Option(
            help="fixed (one length), scenes (no clip crosses a cut) or ranges (each of a list)."
        ),
    ] = "fixed",
    clip_seconds: Annotated[
        float, typer.Option(help="Length of a clip, or the most it has.")
    ] = 10.0,
    min_clip_seconds: Annotated[
        float | None,
        typer.Option(help="Shortest clip of a scene or range; 2, or the length of a clip."),
    ] = None,
    short_side: Annotated[int, typer.Option(help="Height in pixels; width follows 16:9.")] = 128,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, multiples of 16; or source, to copy each.")
    ] = None,
    fit: Annotated[str, typer.Option(help="crop (cover the size) or pad (show all).")] = "crop",
    fps: Annotated[str, typer.Option(help="Frames a second; or source: each its own.")] = "30",
    gop_seconds: Annotated[float, typer.Option(help="Time between keyframes.")] = 0.5,
    codec: Annotated[str, typer.Option(help="h264, hevc, vp9, av1, mpeg4 or mjpeg.")] = "h264",
    profile: Annotated[
        str,
        typer.Option(help="fast; compact: fewer bytes, slower; copy: no picture is encoded again."),
    ] = "fast",
    crf: Annotated[int, typer.Option(help="Quality, 0 to 51: lower is better and larger.")] = 20,
    audio: Annotated[
        str, typer.Option(help="flac or pcm (exact), opus (48 kHz only) or aac.")
    ] = "flac",
    channels: Annotated[int, typer.Option(help="1 or 2; of two, the stream reads the mean.")] = 1,
    sample_rate: Annotated[
        int, typer.Option(help="Sound samples a second: 16000, 24000, 48000.")
    ] = 24000,
    require: Annotated[
        str,
        typer.Option(
            help="All that a clip must have: audio, audible (not silent), motion (not static), "
            "joined by commas; or none."
        ),
    ] = "audio",
    holdout: Annotated[float, typer.Option(help="Fraction held out: makes train and val.")] = 0.0,
    gap_seconds: Annotated[float, typer.Option(help="Left out between train and val.")] = 10.0,
    split_by: Annotated[
        str, typer.Option(help="What is held out: time (the end of each source) or source.")
    ] = "time",
    labels: Annotated[Path | None, typer.Option(help="CSV with columns file, label.")] = None,
    clips_per_shard: Annotated[int, typer.Option(help="Clips in a shard.")] = 256,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each core if absent.")
    ] = None,
    time_limit: Annotated[
        float,
        typer.Option(min=1.0, help="Seconds that a minute of a source may take; or its survey."),
    ] = 600.0,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Who does the work: this machine, or Ray.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; without it Ray is started here.")
    ] = None,
    staging: Annotated[
        Path | None, typer.Option(help="Where shards are made that go to a URL.")
    ] = None,
    dali_index: Annotated[
        bool, typer.Option("--dali-index", help="Write index files for DALI beside the tars too.")
    ] = False,
    part: Annotated[
        str | None, typer.Option(help="Of an array job, as in 2/8; `gdt shards merge` joins them.")
    ] = None,
) -> None:
    """Make shards of clips: one pass over each source, whole shards only, every source accounted.

    A list has the column path, and may have start and stop (seconds), label, caption, and others,
    which are kept. A source that cannot be used is skipped, counted and named in OUT/report.jsonl.
    Run the same command again to continue a build that was interrupted.
    """
    import time

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from shards import BuildOptions
    from shards.building.array_part import Portion
    from shards.building.build import build as build_shards
    from shards.storage.transfer import is_url, public

    portion = Portion.parse(part) if part is not None else None
    if dali_index and portion is not None:
        raise typer.BadParameter(
            "--dali-index is for a whole build: merge the parts, then run `gdt shards dali-index`."
        )
    if staging is not None and not is_url(out):
        raise typer.BadParameter("--staging is for shards that go to a URL; --out is a folder.")
    options = BuildOptions(
        cut=cut,
        clip_seconds=clip_seconds,
        min_clip_seconds=min_clip_seconds,
        short_side=short_side,
        size=_size(size),
        fit=fit,
        fps=_fps(fps),
        gop_seconds=gop_seconds,
        codec=codec,
        profile=profile,
        crf=crf,
        audio=audio,
        channels=channels,
        sample_rate_hz=sample_rate,
        require=() if require == "none" else tuple(require.split(",")),
        holdout=holdout,
        gap_seconds=gap_seconds,
        split_by=split_by,
        clips_per_shard=clips_per_shard,
    )
    console = Console(stderr=True)
    started = time.monotonic()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks = {
            "probe": bar.add_task("reading headers of files", total=None),
            "build": bar.add_task("encoding clips", total=None, visible=False),
        }

        def progress(stage: str, done: int, total: int | None) -> None:
            if stage == "build":
                bar.update(tasks["probe"], visible=False)
            bar.update(tasks[stage], completed=done, total=total, visible=True)

        summary = build_shards(
            sources,
            out,
            options,
            engine=_engine(engine, address, workers, time_limit),
            labels=labels,
            portion=portion,
            staging=staging,
            progress=progress,
        )
    if dali_index:
        shard_care.dali_index(out)
    place = public(f"{out.rstrip('/')}/{portion.folder}" if portion else out)
    _print_summary(summary, place, time.monotonic() - started)


def _fps(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _engine(name: str, address: str | None, workers: int | None, time_limit: float) -> "Engine":
    import os

    if name == "ray":
        from shards.building.ray_engine import RayEngine

        return RayEngine(address, workers, time_limit)
    if address is not None:
        raise typer.BadParameter("--address is that of a Ray cluster; give --engine ray with it.")
    from shards.building.engines import LocalEngine

    return LocalEngine(workers or len(os.sched_getaffinity(0)), time_limit)


def _size(text: str | None) -> tuple[int, int] | str | None:
    if text in (None, "source"):
        return text
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise typer.BadParameter(f"--size is {text!r}; write it as WIDTHxHEIGHT, e.g. 224x128.")
    return int(width), int(height)


def _print_summary(summary: "BuildSummary", out: str, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from shards.building.target import REPORT_NAME
    from shards.plural import plural

    console = Console(markup=False)  # file names may hold brackets
    if summary.already_built:
        console.print(
            f"{out} is complete already; nothing was left to do.", highlight=False, soft_wrap=True
        )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("sources", justify="right")
    table.add_column("clips", justify="right")
    for part, clips in sorted(summary.clips_by_part.items()):
        if part != "all":
            table.add_row(f"made: {part}", "", f"{clips}")
    table.add_row("made", f"{summary.made}", f"{summary.clips}", style="bold")
    if summary.deinterlaced_clips:
        table.add_row("of them deinterlaced", "", f"{summary.deinterlaced_clips}")
    for cause, number in summary.skipped_sources.most_common():
        table.add_row(f"skipped: {cause}", f"{number}", "", style="yellow")
    for cause, number in summary.skipped_clips.most_common():
        table.add_row(f"left out: {cause}", "", f"{number}", style="yellow")
    console.print(table)
    skipped = sum(summary.skipped_sources.values())
    console.print(
        f"{plural(summary.sources, 'source')} = {summary.made} made + {skipped} skipped, "
        f"in {seconds:.1f} s; each has a line in {out}/{REPORT_NAME}",
        highlight=False,
        soft_wrap=True,
    )
    if summary.took_too_long:
        console.print(
            "Some took too long: a longer --time-limit may have them, in another folder (while a "
            "build is not finished, in the same).",
            style="yellow",
            soft_wrap=True,
        )
    for (first, second), number in summary.repeated.items():
        console.print(
            f"{plural(number, 'file')} given by {first} and again by {second}: taken once",
            style="yellow",
            soft_wrap=True,
        )
    if summary.labels_without_source:
        names = ", ".join(summary.first_labels)
        more = ", …" if summary.labels_without_source > len(summary.first_labels) else ""
        console.print(
            f"labels for {plural(summary.labels_without_source, 'file')} that this build does not "
            f"have: {names}{more}",
            style="yellow",
            soft_wrap=True,
        )


@command(app, "index", "gdt shards index tars/")
def index(
    tars: Annotated[list[Path], typer.Argument(help="Tars of one folder, or the folder.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each core if absent.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=1.0, help="Seconds that a tar may take.")
    ] = 3600.0,
) -> None:
    """Make tars of videos or images a data set, as they are: an index beside each, a manifest.

    Samples that cannot be indexed are left out, counted and named in index-report.jsonl.
    """
    import os

    from shards.maintenance.index_tars import REPORT_NAME, index_tars
    from shards.plural import plural

    with progress_bar("indexing tars") as progress:
        summary = index_tars(
            tars,
            num_workers=workers or len(os.sched_getaffinity(0)),
            time_limit_seconds=time_limit,
            progress=progress,
        )
    indexed = f"{plural(summary.samples, 'sample')} of {plural(summary.tars, 'tar')}"
    typer.echo(f"indexed: {indexed}")
    for cause, number in summary.skipped_tars.most_common():
        typer.echo(f"  left out: {plural(number, 'tar')}: {cause}")
    for cause, number in summary.skipped.most_common():
        typer.echo(f"  left out: {plural(number, 'sample')}: {cause}")
    folder = tars[0] if tars[0].is_dir() else tars[0].parent
    typer.echo(f"{folder / REPORT_NAME} has a line for each tar")


for name, function in shard_care.COMMANDS.items():
    command(app, name, *shard_care.EXAMPLES[name])(function)
