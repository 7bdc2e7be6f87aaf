"""`gdt shards`: build, index, verify, inspect."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shards import DataSet, IndexedSample
    from shards.report import BuildSummary

app = typer.Typer(no_args_is_help=True, help="Turn videos into shards, and look after them.")

PROBLEMS_FOUND = 1


@app.command()
def build(
    sources: Annotated[
        list[Path],
        typer.Argument(help="Folders of videos and video files; or lists (.csv, .tsv, .jsonl)."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to build in: new, empty, or to continue.")],
    clip_seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 10.0,
    short_side: Annotated[int, typer.Option(help="Height in pixels; width follows 16:9.")] = 128,
    size: Annotated[
        str | None, typer.Option(help="Exact size WIDTHxHEIGHT, multiples of 16.")
    ] = None,
    fit: Annotated[str, typer.Option(help="crop (cover the size) or pad (show all).")] = "crop",
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 30.0,
    gop_seconds: Annotated[float, typer.Option(help="Time between keyframes.")] = 0.5,
    codec: Annotated[str, typer.Option(help="h264, or vp9 for DALI without a GPU.")] = "h264",
    crf: Annotated[int, typer.Option(help="Quality: lower is better and larger.")] = 20,
    sample_rate: Annotated[int, typer.Option(help="Sound samples a second.")] = 24000,
    require: Annotated[
        str, typer.Option(help="audio: drop clips without sound; none: keep them.")
    ] = "audio",
    holdout: Annotated[float, typer.Option(help="Fraction held out: makes train and val.")] = 0.0,
    gap_seconds: Annotated[float, typer.Option(help="Left out between train and val.")] = 10.0,
    split_by: Annotated[str, typer.Option(help="Hold out by time or by source.")] = "time",
    labels: Annotated[Path | None, typer.Option(help="CSV with columns file, label.")] = None,
    clips_per_shard: Annotated[int, typer.Option(help="Clips in a shard.")] = 256,
    workers: Annotated[
        int | None, typer.Option(help="Processes; one for each core if absent.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(help="Seconds that a minute of a source may take.")
    ] = 600.0,
) -> None:
    """Make shards of clips: one pass over each source, whole shards only, every source accounted.

    A list has the column path, and may have start and stop (seconds), label, caption, and others,
    which are kept. A source that cannot be used is skipped, counted and named in OUT/report.jsonl.
    Run the same command again to continue a build that was interrupted.
    """
    import os
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
    from shards.build import build as build_shards

    options = BuildOptions(
        clip_seconds=clip_seconds,
        short_side=short_side,
        size=_size(size),
        fit=fit,
        fps=fps,
        gop_seconds=gop_seconds,
        codec=codec,
        crf=crf,
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
            num_workers=workers or len(os.sched_getaffinity(0)),
            labels=labels,
            time_limit_seconds=time_limit,
            progress=progress,
        )
    _print_summary(summary, out, time.monotonic() - started)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise typer.BadParameter(f"--size is {text!r}; write it as WIDTHxHEIGHT, e.g. 224x128.")
    return int(width), int(height)


def _print_summary(summary: "BuildSummary", out: Path, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    from shards.target import REPORT_NAME

    console = Console()
    if summary.already_built:
        console.print(
            f"{out} is complete already; nothing was left to do.", highlight=False, soft_wrap=True
        )
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("sources", justify="right")
    table.add_column("clips", justify="right")
    for part, clips in sorted(summary.clips_by_part.items()):
        table.add_row("made" if part == "all" else f"made: {part}", "", f"{clips}")
    if summary.clips_by_part.keys() != {"all"}:
        table.add_row("made in all", f"{summary.made}", f"{summary.clips}", style="bold")
    for cause, number in summary.skipped_sources.most_common():
        table.add_row(f"skipped: {cause}", f"{number}", "", style="yellow")
    for cause, number in summary.skipped_clips.most_common():
        table.add_row(f"left out: {cause}", "", f"{number}", style="yellow")
    console.print(table)
    skipped = sum(summary.skipped_sources.values())
    console.print(
        f"{summary.sources} sources = {summary.made} made + {skipped} skipped, "
        f"in {seconds:.1f} s; each has a line in {out / REPORT_NAME}",
        highlight=False,
        soft_wrap=True,
    )
    if summary.labels_without_source:
        names = ", ".join(summary.labels_without_source[:5])
        number = len(summary.labels_without_source)
        console.print(f"{number} labels matched no source: {names}", style="yellow")


@app.command()
def index(
    tars: Annotated[list[Path], typer.Argument(help="Tars of one folder, or the folder.")],
    workers: Annotated[
        int | None, typer.Option(help="Processes; one for each core if absent.")
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds that a tar may take.")] = 3600.0,
) -> None:
    """Make WebDataset tars of videos a data set, as they are: an index beside each, a manifest.

    Samples that cannot be indexed are left out, counted and named in index-report.jsonl.
    """
    import os

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from shards.foreign import REPORT_NAME, index_tars

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("indexing tars", total=None)
        summary = index_tars(
            tars,
            num_workers=workers or len(os.sched_getaffinity(0)),
            time_limit_seconds=time_limit,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    typer.echo(f"{summary.samples} samples of {summary.tars} tars are indexed")
    for cause, number in summary.skipped_tars.most_common():
        typer.echo(f"  left out: {number} tars: {cause}")
    for cause, number in summary.skipped.most_common():
        typer.echo(f"  left out: {number} samples: {cause}")
    folder = tars[0] if tars[0].is_dir() else tars[0].parent
    typer.echo(f"{folder / REPORT_NAME} has a line for each tar")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A data set, or a folder with train and val.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes and indexes only; the tars are not read.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Shards verified at a time.")] = 2,
) -> None:
    """Compare every byte with what was written; exit status 1 and a list where they differ."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from shards.verify import verify as verify_shards

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verifying", total=None)
        found = verify_shards(
            folder,
            quick=quick,
            num_threads=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    what = "sizes and indexes" if quick else f"all {found.bytes_read} bytes"
    counted = f"{found.shards} shards, {found.samples} samples"
    if not found.problems:
        typer.echo(f"{folder}: {counted}, {what} as they were written")
        return
    typer.echo(f"{folder}: {len(found.problems)} problems in {counted}:", err=True)
    for problem in found.problems[:20]:
        typer.echo(f"  {problem}", err=True)
    if len(found.problems) > 20:
        typer.echo(f"  … and {len(found.problems) - 20} more", err=True)
    raise typer.Exit(PROBLEMS_FOUND)


@app.command()
def inspect(
    folder: Annotated[Path, typer.Argument(help="A data set.")],
    key: Annotated[str | None, typer.Option(help="The sample to look at; else the first.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG to draw: frames over their log-mel.")
    ] = None,
    segments: Annotated[int, typer.Option(help="Segments to draw.")] = 6,
) -> None:
    """Show what a sample is; with --out, draw segments of it (without --key, of several)."""
    from rich.console import Console
    from rich.table import Table

    from shards import DataSet

    data_set = DataSet.open(folder)
    number = data_set.find(key) if key is not None else 0
    sample = data_set.sample(number)
    table = Table(title=f"sample {sample.key}", title_justify="left", box=None, pad_edge=False)
    table.add_column("", style="bold")
    table.add_column("", overflow="fold")
    for name, value in _facts(data_set, sample, number):
        table.add_row(name, value)
    console = Console()
    console.print(f"{data_set}", highlight=False, markup=False, soft_wrap=True)
    console.print(table, highlight=False)
    if out is not None:
        _draw(data_set, number, every=key is None, segments=segments, out=out)
        console.print(f"drew {out}", highlight=False, soft_wrap=True)


def _facts(data_set: "DataSet", sample: "IndexedSample", number: int) -> "list[tuple[str, str]]":
    import numpy as np

    facts = [("number", f"{number} of {len(data_set)}"), ("shard", sample.shard)]
    for member in sample.members.values():
        place = f"{member.size} bytes at {member.offset}, crc32 {member.crc32:08x}"
        facts.append((f".{member.extension}", place))
    for track in (sample.video, sample.audio):
        if track is None:
            continue
        packets = track.packets
        facts.append((track.kind, f"{track!r}"))
        keyframes = np.flatnonzero(packets.keyframe)
        if track.kind == "video" and len(keyframes) > 1:
            gops = np.diff(keyframes)
            facts.append(("", f"{gops.min()} to {gops.max()} frames from keyframe to keyframe"))
    facts += [(name, f"{value}") for name, value in data_set.metadata(number).items()]
    return facts


def _draw(data_set: "DataSet", number: int, *, every: bool, segments: int, out: Path) -> None:
    """Draw segments of one sample, evenly spaced, or one from the middle of several samples."""
    from pipelines.segment import SegmentOptions, SegmentReader
    from tools.pictures import contact_sheet
    from tools.segment_views import contact_row

    sample = data_set.sample(number)
    rate = sample.audio.sample_rate_hz if sample.audio is not None else 24000
    reader = SegmentReader(
        data_set,
        SegmentOptions(sample_rate_hz=rate),
        video=sample.video is not None,
        audio=sample.audio is not None,
    )
    count = min(segments, len(data_set)) if every else segments
    numbers = [i * len(data_set) // count if every else number for i in range(count)]
    rows = []
    for i, n in enumerate(numbers):
        start, stop = reader.span(data_set.sample(n))
        room = max(0.0, stop - start - reader.options.seconds)
        at = start + room * (0.5 if every or count == 1 else i / (count - 1))
        (segment,) = reader.segments(n, [at])
        label = data_set.metadata(n).get("label", "")
        rows.append(contact_row(data_set.sample(n).key, segment, note=str(label)))
    contact_sheet(rows, out, title=f"{data_set.path}")
