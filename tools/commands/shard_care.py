"""`gdt shards` on what is built: verify, repair, merge, stats, dali-index, inspect."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tools.display.progress_bar import progress_bar
from tools.say import say

if TYPE_CHECKING:
    from shards import Dataset, IndexedSample
    from tools.display.contact_sheet import ContactRow

PROBLEMS_FOUND = 1


def verify(
    data_set: Annotated[
        str, typer.Argument(help="Folder or URL of a data set, or of one with train and val.")
    ],
    quick: Annotated[
        bool, typer.Option("--quick", help="Sizes and indexes only; the tars are not read.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Shards verified in parallel.")] = 2,
) -> None:
    """Compare every byte with what was written; where any differs, list it and exit with 1."""
    from shards.maintenance.verify import verify as verify_shards
    from shards.plural import plural
    from shards.storage.urls import public

    with progress_bar("verifying", in_bytes=True) as progress:
        found = verify_shards(
            data_set,
            quick=quick,
            num_threads=workers,
            progress=progress,
        )
    what = "sizes and indexes" if quick else f"all {plural(found.bytes_read, 'byte')}"
    held = f"{plural(found.shards, 'shard')}, {plural(found.samples, 'sample')}"
    if not found.problems:
        say(f"{public(data_set)}: {held}, {what} as they were written")
        return
    problems = plural(len(found.problems), "problem")
    say(f"{public(data_set)}: {problems} in {held}:", err=True)
    for problem in found.problems[:20]:
        say(f"  {problem}", err=True)
    if len(found.problems) > 20:
        say(f"  … and {len(found.problems) - 20} more", err=True)
    say("`gdt shards repair` rebuilds them where the sources are still there.", err=True)
    raise typer.Exit(PROBLEMS_FOUND)


def merge(
    out: Annotated[str, typer.Argument(help="Folder or URL of an array job, or above data sets.")],
    data_sets: Annotated[
        list[str] | None,
        typer.Argument(help="Data sets under it; otherwise the parts of an array job."),
    ] = None,
) -> None:
    """Merge data sets into one, by a manifest that names their shards where they are."""
    from shards.maintenance.merge import merge_data_sets, merge_portions
    from shards.plural import plural

    made = [merge_data_sets(out, data_sets)] if data_sets else merge_portions(out)
    for merged in made:
        say(
            f"{merged.location}: {plural(merged.data_sets, 'data set')}, "
            f"{plural(merged.shards, 'shard')}, {plural(merged.samples, 'sample')}"
        )


def stats(
    data_set: Annotated[
        str, typer.Argument(help="Folder or URL of a data set, or of one with train and val.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="PNG to draw: clip durations, bytes, labels.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print json instead of a table.")] = False,
) -> None:
    """Count what is in a data set: hours, bytes, rates, sizes, codecs, sources, labels, skips."""
    import json

    from shards.maintenance.stats import stats as count_stats
    from tools.terminal import Terminal

    with progress_bar("reading samples") as progress:
        found = count_stats(
            data_set,
            progress=progress,
        )
    if as_json:
        say(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        from tools.display.stats_page import stats_table

        console = Terminal()
        console.say(found.location)
        console.print(stats_table(found))
    if out is not None:
        from tools.display.stats_page import draw_stats

        draw_stats(found, out)
        say(f"drew {out}", err=True)


def repair(
    folder: Annotated[
        Path,
        typer.Argument(help="What `gdt shards build` made, or a part of an array job."),
    ],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per core.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=1.0, help="Seconds that a minute of a source may take.")
    ] = 600.0,
) -> None:
    """Rebuild what is missing or damaged; where that is impossible, list it and exit with 1.

    An index is rebuilt from its tar, a manifest from shards and indexes, and a shard from its
    sources, which must be where and what they were. Nothing else is touched.
    """
    import os

    from shards.building.engines import LocalEngine
    from shards.maintenance.repair import repair as repair_shards
    from shards.plural import plural

    with progress_bar("examining shards") as progress:
        found = repair_shards(
            folder,
            LocalEngine(workers or len(os.sched_getaffinity(0)), time_limit),
            progress=progress,
        )
    for line in found.repaired:
        say(line)
    say(
        f"{folder}: whole: {plural(found.whole, 'shard')}; made again: "
        f"{plural(len(found.repaired), 'file')}"
    )
    if found.problems:
        say(f"{len(found.problems)} could not be:", err=True)
        for problem in found.problems:
            say(f"  {problem}", err=True)
        raise typer.Exit(PROBLEMS_FOUND)


def dali_index(
    data_set: Annotated[
        str, typer.Argument(help="Folder or URL of a data set, or of one with train and val.")
    ],
) -> None:
    """Write an index for DALI's readers.webdataset beside each tar: shard-000000.idx."""
    from shards.maintenance.dali_index import write_dali_indexes
    from shards.storage.urls import public

    written = write_dali_indexes(data_set)
    say(f"{len(written)} index files for DALI are in {public(data_set)}")


def inspect(
    data_set: Annotated[str, typer.Argument(help="Folder or URL of a data set.")],
    key: Annotated[
        str | None, typer.Option(help="Key of the sample to show; by default the first.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="PNG to draw: frames over their log-mel.")
    ] = None,
    segments: Annotated[int, typer.Option(min=1, help="Number of segments to draw.")] = 6,
) -> None:
    """Show what a sample holds; with --out, draw segments of it, or of several without --key."""
    from rich.table import Table

    from shards import Dataset
    from tools.terminal import Terminal

    opened = Dataset.open(data_set)
    number = opened.find(key) if key is not None else 0
    sample = opened.sample(number)
    table = Table(title=f"sample {sample.key}", title_justify="left", box=None, pad_edge=False)
    table.add_column("", style="bold")
    table.add_column("", overflow="fold")
    for name, value in _facts(opened, sample, number):
        table.add_row(name, value)
    console = Terminal()  # file names may hold brackets
    console.say(f"{opened}")
    console.print(table)
    if out is not None:
        _draw(opened, number, every=key is None, segments=segments, out=out)
        console.say(f"drew {out}")


def _facts(data_set: "Dataset", sample: "IndexedSample", number: int) -> "list[tuple[str, str]]":
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


def _draw(data_set: "Dataset", number: int, *, every: bool, segments: int, out: Path) -> None:
    """Draw segments of one sample, evenly spaced, or one from the middle of several samples."""
    from pipelines.decoding.segment import SegmentOptions
    from pipelines.decoding.segment_reader import SegmentReader
    from tools.display.contact_sheet import contact_sheet
    from tools.display.segment_views import contact_row

    sample = data_set.sample(number)
    rate = sample.audio.sample_rate_hz if sample.audio is not None else 24000
    reader = SegmentReader(
        data_set,
        SegmentOptions(sample_rate_hz=rate),
        video=sample.video is not None,
        audio=sample.audio is not None,
    )
    numbers = some_of(len(data_set), segments) if every else [number] * segments
    rows = []
    for i, n in enumerate(numbers):
        start, stop = reader.span(data_set.sample(n))
        room = max(0.0, stop - start - reader.options.window_seconds)
        at = start + room * (0.5 if every or segments == 1 else i / (segments - 1))
        (segment,) = reader.segments(n, [at])
        info = data_set.metadata(n)
        row = contact_row(data_set.sample(n).key, segment, note=str(info.get("label", "")))
        rows.append(in_source(row, info))
    shown = f"{len(rows)} segments of {len(data_set)} clips"
    contact_sheet(rows, out, title=f"{data_set.path}", note=shown)


def some_of(total: int, count: int) -> list[int]:
    """Up to `count` of `total` clips in order, spread by a keyed permutation.

    Evenly spaced ones would miss whatever has a period: labels that repeat in turn, say.
    """
    from pipelines.sampling.order import Order

    order = Order(seed=0, num_samples=total)
    return sorted(order.sample(0, n) for n in range(min(count, total)))


def in_source(row: "ContactRow", info: Mapping[str, Any]) -> "ContactRow":
    """A clip's row on the clock of its source and under its name, "talk.mp4 at 1:02.5".

    Args:
        row: on the clip's clock.
        info: the sample's json; one without a source leaves the row as it is.
    """
    if "source" not in info:
        return row
    clip_starts = float(info.get("start_seconds", 0.0))
    start, stop = row.start_seconds + clip_starts, row.stop_seconds + clip_starts
    minutes, seconds = divmod(start, 60)
    name = f"{info['source']} at {int(minutes)}:{seconds:04.1f}"
    return replace(row, name=name, start_seconds=start, stop_seconds=stop)


#: Sub-command → its function, and command lines that show its use.
COMMANDS: Final[dict[str, Callable[..., None]]] = {
    "verify": verify,
    "repair": repair,
    "merge": merge,
    "stats": stats,
    "dali-index": dali_index,
    "inspect": inspect,
}
EXAMPLES: Final = {
    "verify": ("gdt shards verify data/shards", "gdt shards verify s3://bucket/shards --quick"),
    "repair": ("gdt shards repair data/shards",),
    "merge": ("gdt shards merge data/shards", "gdt shards merge data/all talks films"),
    "stats": ("gdt shards stats data/shards --out stats.png",),
    "dali-index": ("gdt shards dali-index data/shards/train",),
    "inspect": ("gdt shards inspect data/shards/val --out segments.png",),
}
