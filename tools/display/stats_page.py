"""What a data set holds, as a table for the terminal and as a picture."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.maintenance.stats import Stats, quantiles
from shards.plural import plural
from shards.shown import shown

if TYPE_CHECKING:
    from rich.table import Table

_MOST_LISTED = 12
_MOST_BARS = 20


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
    """Draw durations and bytes per second of clips, labels, and what the build left out.

    There is no panel for labels, or for what was left out, where there are none.
    """
    from tools.display.style import HEADLINE_INCHES, PAGE_WIDTH_INCHES, headline, new_figure, save

    left_out = found.skipped_sources + found.skipped_clips
    bars = [
        (counts.most_common(_MOST_BARS)[::-1], f"{unit}; {_most_of(counts, name)}")
        for counts, unit, name in (
            (found.labels, "clips", "label"),
            (left_out, "left out: sources and clips", "cause"),
        )
        if counts
    ]
    height = HEADLINE_INCHES + 0.85 + max([2.4, *(0.19 * len(most) for most, _ in bars)])
    figure = new_figure(PAGE_WIDTH_INCHES, height)
    words = f"{plural(found.samples, 'clip')}, {_hours(found.seconds)}, {_bytes(found.bytes)}"
    headline(figure, found.location, words)
    grid = figure.add_gridspec(
        1,
        2 + len(bars),
        left=0.07,
        right=0.97,
        bottom=0.62 / height,
        top=1 - (HEADLINE_INCHES + 0.1) / height,
        wspace=0.34 + 0.3 * len(bars),
    )
    lengths, rates, *others = (figure.add_subplot(cell) for cell in grid)
    _histogram(lengths, found.clip_seconds, "clip duration (s)")
    _histogram(rates, found.bytes_per_second / 1000, "kB per second of a clip")
    for axes, (most, name) in zip(others, bars, strict=True):
        _bars(axes, most, name)
    save(figure, out)


def _most_of(counts: Counter[str], name: str) -> str:
    words = plural(len(counts), name)
    return words if len(counts) <= _MOST_BARS else f"the {_MOST_BARS} most of {words}"


def _histogram(axes: Any, values: Any, name: str) -> None:
    """Draw a histogram; values that are all equal make one bar in the middle."""
    from matplotlib.ticker import MaxNLocator

    from tools.display.style import ACCENT, LABEL, plain_axes

    if len(values):
        low, high = float(values.min()), float(values.max())
        if high - low < 1e-3 * max(abs(high), 1e-9):
            low, high = low * 0.9, high * 1.1
        axes.hist(values, bins=30, range=(low, high), color=ACCENT, rwidth=0.9)
    axes.set_xlabel(name, **LABEL)
    axes.set_ylabel("clips", **LABEL)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    plain_axes(axes, grid="y")


def _bars(axes: Any, most: list[tuple[str, int]], name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    from tools.display.style import ACCENT, INK, LABEL, plain_axes

    axes.barh(range(len(most)), [number for _, number in most], color=ACCENT, height=0.7)
    plain_axes(axes, grid="x")
    shorts = (label if len(label) <= 24 else "…" + label[-23:] for label, _ in most)
    names = [shown(short) for short in shorts]
    axes.set_yticks(range(len(most)), names, fontsize=8, color=INK, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-0.6, max(len(most), 6) - 0.4)
    axes.set_xlabel(name, **LABEL)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
