"""What a data set holds, for people: a table on the terminal, and a picture."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.maintenance.stats import Stats, quantiles
from shards.plural import plural

if TYPE_CHECKING:
    from rich.table import Table

_MOST_LISTED = 12


def stats_table(found: Stats) -> "Table":
    """Totals, then counts, then quantiles."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column()
    table.add_row("samples", f"{found.samples:,}", f"in {plural(found.shards, 'shard')}")
    if found.deinterlaced:
        table.add_row("  deinterlaced", f"{found.deinterlaced:,}")
    table.add_row("sources", f"{found.sources:,}")
    table.add_row("length", _hours(found.seconds))
    table.add_row("bytes", _bytes(found.bytes), f"{_bytes(_per(found.bytes, found.seconds))}/s")
    for kind, size, seconds in (
        ("picture", found.video_bytes, found.video_seconds),
        ("sound", found.audio_bytes, found.audio_seconds),
    ):
        if seconds:
            table.add_row(f"  {kind}", _bytes(size), f"{_bytes(_per(size, seconds))}/s")
    for name, counts, unit in (
        ("coded size", found.coded_sizes, ""),
        ("frame rate", found.frame_rates, "/s"),
        ("codec", found.codecs, ""),
        ("sample rate", found.sample_rates, ""),
        ("label", found.labels, ""),
        ("sources left out", found.skipped_sources, ""),
        ("clips left out", found.skipped_clips, ""),
    ):
        _add_counts(table, name, counts, unit)
    for name, values in (("clip seconds", found.clip_seconds), ("clip bytes", found.clip_bytes)):
        for quantile, value in quantiles(values).items():
            table.add_row(name, f"{value:,.6g}" if value < 1000 else f"{value:,.0f}", quantile)
            name = ""
    return table


def _add_counts(table: "Table", name: str, counts: Counter[str], unit: str) -> None:
    for value, number in counts.most_common(_MOST_LISTED):
        table.add_row(name, f"{number:,}", f"{value}{unit}")
        name = ""
    if len(counts) > _MOST_LISTED:
        table.add_row(
            "", f"{counts.total() - _top(counts):,}", f"{len(counts) - _MOST_LISTED} others"
        )


def _top(counts: Counter[str]) -> int:
    return sum(number for _, number in counts.most_common(_MOST_LISTED))


def _per(size: float, seconds: float) -> float:
    return size / seconds if seconds else 0.0


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 360 else f"{seconds:,.1f} s"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:,.1f} TB"


def draw_stats(found: Stats, out: Path) -> None:
    """Draw how long clips are, how many bytes a second of them takes, and how labels are shared."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from tools.display.pictures import ACCENT, FAINT, PAGE_WIDTH_INCHES

    figure = Figure(figsize=(PAGE_WIDTH_INCHES, 3.6), layout="constrained")
    title = f"{found.location}: {plural(found.samples, 'sample')}"
    figure.suptitle(title, fontsize=10, parse_math=False)
    lengths, rates, labels = figure.subplots(1, 3)
    panels: list[tuple[Any, Any, str]] = [
        (lengths, found.clip_seconds, "length of a clip, seconds"),
        (rates, found.bytes_per_second / 1000, "kB for a second of a clip"),
    ]
    for axes, values, name in panels:
        if len(values):
            axes.hist(values, bins=40, color=ACCENT)
        axes.set_xlabel(name)
        axes.set_ylabel("samples")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    most = found.labels.most_common(20)[::-1]
    if most:
        labels.barh(range(len(most)), [number for _, number in most], color=ACCENT)
        names = [label if len(label) <= 24 else label[:23] + "…" for label, _ in most]
        labels.set_yticks(range(len(most)), names, fontsize=7, parse_math=False)
        labels.set_xlabel(f"samples; {len(most)} of {plural(len(found.labels), 'label')}")
        labels.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        labels.text(0.5, 0.5, "no labels", ha="center", va="center", color=FAINT)
        labels.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", dpi=120)
