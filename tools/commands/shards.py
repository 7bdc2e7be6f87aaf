"""`gdt shards`: build and index; what looks after shards is in shard_care.py."""

from pathlib import Path
from typing import Annotated

import typer

from tools.commands import shard_care
from tools.commands.build_flags import (
    AudioFlags,
    ClipFlags,
    TargetFlags,
    VideoFlags,
    WorkFlags,
    build_options,
)
from tools.commands.flag_groups import with_flag_groups
from tools.commands.group import command, group
from tools.display.progress_bar import build_progress, progress_bar
from tools.say import say

app = group("Turn videos into shards, and look after them.")


@command(
    app,
    "build",
    "gdt shards build videos/ --out data/shards --holdout 0.1 --gap-seconds 10",
    "gdt shards build clips.csv --out s3://bucket/shards --cut ranges --engine ray",
)
@with_flag_groups
def build(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders of videos, files, patterns in quotes, WebDataset tars, URLs; or lists "
            "(.csv, .tsv, .jsonl, .parquet)."
        ),
    ],
    target: TargetFlags,
    clips: ClipFlags,
    video: VideoFlags,
    audio: AudioFlags,
    work: WorkFlags,
) -> None:
    """Make shards of clips: one pass over each source, whole shards only, every source accounted.

    A list has the column path, and may have start and stop (seconds), label, caption, and others,
    which are kept. A source that cannot be used is skipped, counted and named in OUT/report.jsonl.
    Run the same command again to continue a build that was interrupted.
    """
    import time

    from shards.building.build import build as build_shards
    from shards.storage.urls import public
    from tools.display.build_summary import print_summary

    portion = target.portion()
    options, engine = build_options(clips, video, audio), work.chosen()
    started = time.monotonic()
    with build_progress() as progress:
        summary = build_shards(
            sources,
            target.out,
            options,
            engine=engine,
            labels=target.labels,
            split=target.split_files(),
            portion=portion,
            staging=target.staging,
            progress=progress,
        )
    if target.dali_index:
        shard_care.dali_index(target.out)
    out = f"{target.out.rstrip('/')}/{portion.folder}" if portion else target.out
    print_summary(summary, public(out), time.monotonic() - started)


@command(app, "index", "gdt shards index tars/")
def index(
    tars: Annotated[list[Path], typer.Argument(help="Tars of one folder, or the folder.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.")
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
    say(f"indexed: {indexed}")
    for cause, number in summary.skipped_tars.most_common():
        say(f"  left out: {plural(number, 'tar')}: {cause}")
    for cause, number in summary.skipped.most_common():
        say(f"  left out: {plural(number, 'sample')}: {cause}")
    folder = tars[0] if tars[0].is_dir() else tars[0].parent
    say(f"{folder / REPORT_NAME} has a line for each tar")


for name, function in shard_care.COMMANDS.items():
    command(app, name, *shard_care.EXAMPLES[name])(function)
