"""What came of a build, for people: a table of counts, and what to do about what was left out."""

from collections.abc import Iterator

from rich.table import Table

from shards.building.report import BuildSummary
from shards.building.target import REPORT_NAME
from shards.plural import plural
from tools.terminal import Terminal


def print_summary(summary: BuildSummary, out: str, seconds: float) -> None:
    """Print it.

    Args:
        summary: what came of it.
        out: where the shards are.
        seconds: how long it took.
    """
    console = Terminal()

    if summary.already_built:
        console.say(f"{out} is complete already; nothing was left to do.")
    console.print(_table(summary))
    skipped = sum(summary.skipped_sources.values())
    console.say(
        f"{plural(summary.sources, 'source')} = {summary.made} made + {skipped} skipped, "
        f"in {seconds:.1f} s; each has a line in {out}/{REPORT_NAME}"
    )
    for text in _warnings(summary):
        console.say(text, "yellow")


def _table(summary: BuildSummary) -> Table:
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
    if summary.tone_mapped_clips:
        table.add_row("of them tone-mapped", "", f"{summary.tone_mapped_clips}")
    for cause, number in summary.skipped_sources.most_common():
        table.add_row(f"skipped: {cause}", f"{number}", "", style="yellow")
    for cause, number in summary.skipped_clips.most_common():
        table.add_row(f"left out: {cause}", "", f"{number}", style="yellow")
    return table


def _warnings(summary: BuildSummary) -> Iterator[str]:
    if summary.took_too_long:
        yield (
            "Some took too long: a longer --time-limit may have them, in another folder (while a "
            "build is not finished, in the same)."
        )
    yield from summary.notes
    for (first, second), number in summary.repeated.items():
        yield f"{plural(number, 'file')} given by {first} and again by {second}: taken once"
    if summary.labels_without_source:
        more = ", …" if summary.labels_without_source > len(summary.first_labels) else ""
        yield (
            f"labels for {plural(summary.labels_without_source, 'file')} that this build does not "
            f"have: {', '.join(summary.first_labels)}{more}"
        )
