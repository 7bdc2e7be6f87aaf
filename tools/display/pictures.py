"""The pictures that the command draws: contact sheets, contrast and weight matrices, loss curves.

Each function takes plain arrays, draws on a matplotlib Figure of its own (no global state, no
screen) and writes one PNG. Time axes are in seconds; nothing is drawn without its name.

Legend: T frames, H height, W width, F mel bins, L log-mel columns, Q queries, K keys.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

INK = "#22252b"
FAINT = "#8a8f98"
ACCENT = "#2a6fb0"
WARM = "#c8553d"
PAGE_WIDTH_INCHES = 11.0


@dataclass(frozen=True)
class ContactRow:
    """One segment to show: its frames over its log-mel, on one clock.

    Args:
        key: The sample's key, drawn as the row's name.
        start_seconds: Where the segment begins, on the clip's clock.
        stop_seconds: Where it ends (excluded).
        frames: uint8 [T, H, W, 3] RGB, evenly spaced over the segment; None without video.
        log_mel: float [F, L], mel bins by time; None without audio.
        note: Anything else worth a few words (a label, say).

    Raises:
        ValueError: Times out of order, a wrong shape, or neither frames nor log-mel.
    """

    key: str
    start_seconds: float
    stop_seconds: float
    frames: npt.NDArray[np.uint8] | None = None
    log_mel: npt.NDArray[np.floating[Any]] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.start_seconds < self.stop_seconds:
            raise ValueError(
                f"contact row {self.key!r}: the segment [{self.start_seconds}, "
                f"{self.stop_seconds}) s is empty; the start must come before the stop"
            )
        if self.frames is None and self.log_mel is None:
            raise ValueError(f"contact row {self.key!r}: nothing to draw; give frames or log_mel")
        if self.frames is not None and (self.frames.ndim != 4 or self.frames.shape[-1] != 3):
            raise ValueError(
                f"contact row {self.key!r}: frames have shape {self.frames.shape}; "
                "expected [T, H, W, 3] RGB"
            )
        if self.log_mel is not None and self.log_mel.ndim != 2:
            raise ValueError(
                f"contact row {self.key!r}: log_mel has shape {self.log_mel.shape}; expected [F, L]"
            )

    def __repr__(self) -> str:
        frames = None if self.frames is None else self.frames.shape
        log_mel = None if self.log_mel is None else self.log_mel.shape
        return (
            f"ContactRow({self.key!r}, [{self.start_seconds:.3f}, {self.stop_seconds:.3f}) s, "
            f"frames={frames}, log_mel={log_mel})"
        )


def contact_sheet(
    rows: Sequence[ContactRow], out: Path, *, title: str = "", num_frames: int = 10
) -> None:
    """Draws each segment as a strip of frames over its log-mel on one time axis; writes a PNG.

    Args:
        rows: The segments, from top to bottom.
        out: The PNG to write; its folder is made.
        title: A line on top.
        num_frames: At most so many frames of a segment are drawn, evenly spaced.

    Raises:
        ValueError: No rows.
    """
    if not rows:
        raise ValueError("contact sheet: no segments to draw; give at least one ContactRow")
    strips = [None if row.frames is None else _strip(row.frames, num_frames) for row in rows]
    axis_width = PAGE_WIDTH_INCHES - 1.5
    mel_height, label_height, axis_height = 0.85, 0.34, 0.42
    row_heights = []
    for row, strip in zip(rows, strips, strict=True):
        strip_height = 0.0 if strip is None else axis_width * strip.shape[0] / strip.shape[1]
        row_heights.append((strip_height, 0.0 if row.log_mel is None else mel_height))
    title_height = 0.45 if title else 0.1
    height = title_height + sum(a + b + label_height + axis_height for a, b in row_heights)

    figure = _figure(PAGE_WIDTH_INCHES, height)
    if title:
        figure.text(
            0.9 / PAGE_WIDTH_INCHES,
            1 - 0.27 / height,
            title,
            fontsize=13,
            color=INK,
            weight="bold",
            va="center",
        )
    left, width = 0.9 / PAGE_WIDTH_INCHES, axis_width / PAGE_WIDTH_INCHES
    top = height - title_height
    for row, strip, (strip_height, mel) in zip(rows, strips, row_heights, strict=True):
        top -= label_height
        words = f"{row.key}   {row.start_seconds:.2f} to {row.stop_seconds:.2f} s"
        figure.text(left, (top + 0.08) / height, words, fontsize=9.5, color=INK, weight="bold")
        if row.note:
            figure.text(
                left + width, (top + 0.08) / height, row.note, fontsize=9, color=FAINT, ha="right"
            )
        extent = (row.start_seconds, row.stop_seconds)
        bottom_axes = None
        if strip is not None:
            top -= strip_height
            bottom_axes = figure.add_axes((left, top / height, width, strip_height / height))
            bottom_axes.imshow(
                strip, extent=(*extent, 0, 1), aspect="auto", interpolation="lanczos"
            )
            bottom_axes.set_yticks([])
            bottom_axes.set_xticks([])
            bottom_axes.spines[:].set_visible(False)
        if row.log_mel is not None:
            top -= mel
            bottom_axes = figure.add_axes((left, top / height, width, mel / height))
            num_bins = row.log_mel.shape[0]
            bottom_axes.imshow(
                row.log_mel,
                extent=(*extent, 0, num_bins),
                aspect="auto",
                origin="lower",
                cmap="magma",
                interpolation="nearest",
            )
            bottom_axes.set_yticks([0, num_bins])
            bottom_axes.set_ylabel("mel bin", fontsize=8, color=FAINT, labelpad=1)
        assert bottom_axes is not None
        bottom_axes.set_xticks(np.linspace(*extent, 6))
        bottom_axes.set_xticklabels([f"{t:.2f} s" for t in np.linspace(*extent, 6)])
        _plain_axes(bottom_axes)
        top -= axis_height
    _save(figure, out)


def matrices(
    contrast: npt.ArrayLike,
    weight: npt.ArrayLike,
    row_names: Sequence[str],
    column_names: Sequence[str],
    out: Path,
    *,
    title: str = "",
) -> None:
    """Draws the contrast matrix c and the weight matrix w side by side, every row and column named.

    Pairs with c·w ≠ 0, the positives of the loss, are outlined in both.

    Args:
        contrast: [Q, K], c of the paper: 1 where the pair is positive.
        weight: [Q, K], w of the paper: 1 where the pair takes part.
        row_names: Q names, such as "s0 t1 video".
        column_names: K names.
        out: The PNG to write; its folder is made.
        title: A line on top.

    Raises:
        ValueError: Shapes and names that do not fit each other.
    """
    tables = {"c  contrast": np.asarray(contrast, float), "w  weight": np.asarray(weight, float)}
    expected = (len(row_names), len(column_names))
    for name, table in tables.items():
        if table.shape != expected or 0 in expected:
            raise ValueError(
                f"matrix {name}: shape {list(table.shape)}, but there are {expected[0]} row names "
                f"and {expected[1]} column names; each row and column needs one name"
            )
    positive = np.prod(list(tables.values()), axis=0) != 0
    num_rows, num_columns = expected
    cell = float(np.clip(7.0 / max(expected), 0.11, 0.5))
    font = float(np.clip(cell * 72 * 0.55, 4.5, 9.5))
    name_inches = 0.25 + max(map(len, [*row_names, *column_names])) * font * 0.52 / 72
    panel_width, panel_height = num_columns * cell, num_rows * cell
    gap, head, foot = name_inches + 0.35, name_inches + (0.6 if title else 0.15), 0.8
    width = max(2 * panel_width + gap + name_inches + 0.3, 6.0)
    height = panel_height + head + foot
    figure = _figure(width, height)
    if title:
        figure.text(0.15 / width, 1 - 0.3 / height, title, fontsize=12, color=INK, weight="bold")
    side = (width - (2 * panel_width + gap + name_inches)) / 2
    for place, (name, table) in enumerate(tables.items()):
        left = side + name_inches + place * (panel_width + gap)
        axes = figure.add_axes(
            (left / width, foot / height, panel_width / width, panel_height / height)
        )
        top = max(1.0, float(table.max()))
        axes.imshow(table, cmap="Blues", vmin=0.0, vmax=top * 1.25, aspect="auto")
        axes.set_xticks(range(num_columns), column_names, rotation=90, fontsize=font)
        axes.set_yticks(range(num_rows), row_names, fontsize=font)
        axes.xaxis.tick_top()
        axes.set_xticks(np.arange(num_columns + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(num_rows + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#d9dce1", linewidth=0.5)
        axes.tick_params(which="both", length=0, labelcolor=INK)
        axes.spines[:].set_visible(False)
        _outline(axes, positive, linewidth=float(np.clip(cell * 4, 0.5, 1.6)))
        if cell >= 0.2:
            _cell_values(axes, table, top, font * 0.85)
        words = f"{name}: {np.count_nonzero(table)} of {table.size} not zero"
        axes.set_xlabel(words, fontsize=10, color=INK, labelpad=8)
    figure.text(
        0.5,
        0.2 / height,
        f"outlined: c·w ≠ 0, the {np.count_nonzero(positive)} positive pairs of the loss",
        fontsize=9,
        color=WARM,
        ha="center",
    )
    _save(figure, out)


def loss_curve(
    steps: npt.ArrayLike,
    losses: npt.ArrayLike,
    out: Path,
    *,
    chance: float | None = None,
    title: str = "",
    chance_name: str = "chance: log K",
) -> None:
    """Draws the training loss over the steps, beside the loss of an encoder that knows nothing.

    Args:
        steps: [N] optimizer steps.
        losses: [N] the loss of each, in nats; values that are not finite leave a gap.
        out: The PNG to write; its folder is made.
        chance: The loss when all embeddings are equal: the log of the number K of keys that a
            query is compared with. Drawn as a line.
        title: A line on top.
        chance_name: What the chance line is called.

    Raises:
        ValueError: No steps, or not one loss for each step.
    """
    x = np.asarray(steps, float)
    y = np.asarray(losses, float)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise ValueError(
            f"loss curve: {list(x.shape)} steps and {list(y.shape)} losses; "
            "expected two lists of the same length, at least 1"
        )
    from matplotlib.ticker import MaxNLocator

    figure = _figure(8.0, 4.4)
    axes = figure.add_axes((0.09, 0.14, 0.87, 0.74))
    marker = "o" if x.size < 3 else None
    axes.plot(x, y, color=ACCENT, linewidth=0.7, alpha=0.4, marker=marker, label="each step")
    window = max(1, x.size // 25)
    if window > 1:
        smooth_x, smooth_y = _running_mean(x, y, window)
        axes.plot(smooth_x, smooth_y, color=ACCENT, linewidth=2, label=f"mean of {window} steps")
    if chance is not None and math.isfinite(chance):
        axes.axhline(chance, color=WARM, linewidth=1.2, linestyle=(0, (5, 3)))
        axes.annotate(
            f"{chance_name} = {chance:.2f}",
            (1.0, chance),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 4),
            textcoords="offset points",
            ha="right",
            fontsize=9,
            color=WARM,
        )
    finite = y[np.isfinite(y)]
    if finite.size:
        highest = max(float(np.percentile(finite, 99.5)), chance or 0.0)
        lowest = float(finite.min())
        margin = 0.08 * max(highest - lowest, 1e-3)
        axes.set_ylim(lowest - margin, highest + 1.5 * margin)
    axes.set_xlabel("optimizer step", fontsize=10, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("loss (nats)", fontsize=10, color=INK)
    axes.grid(axis="y", color="#e4e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
    _plain_axes(axes)
    axes.tick_params(labelsize=9)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    if title:
        figure.text(0.09, 0.93, title, fontsize=12, color=INK, weight="bold")
    _save(figure, out)


def _figure(width_inches: float, height_inches: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", dpi=130)


def _strip(frames: npt.NDArray[np.uint8], num_frames: int) -> npt.NDArray[np.uint8]:
    """[T, H, W, 3] → one picture [H, about num_frames × W, 3], thin white lines between frames."""
    total, height, width, _ = frames.shape
    count = min(total, num_frames)
    # the frame in the middle of each of `count` equal parts
    chosen = frames[((np.arange(count) + 0.5) * total / count).astype(int)]
    line = max(1, round(width / 60))
    strip = np.full((height, count * (width + line) - line, 3), 255, np.uint8)
    for place, frame in enumerate(chosen):
        strip[:, place * (width + line) : place * (width + line) + width] = frame
    return strip


def _cell_values(axes: Any, table: npt.NDArray[np.float64], top: float, font: float) -> None:
    for row, column in zip(*np.nonzero(table), strict=True):
        value = table[row, column]
        axes.text(
            column,
            row,
            f"{value:.3g}",
            ha="center",
            va="center",
            fontsize=font,
            color="white" if value > 0.5 * top else INK,
        )


def _outline(axes: Any, chosen: npt.NDArray[np.bool_], linewidth: float) -> None:
    from matplotlib.collections import PolyCollection

    square = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    centres = np.argwhere(chosen)[:, ::-1]
    axes.add_collection(
        PolyCollection(
            list(centres[:, None, :] + square),
            facecolors="none",
            edgecolors=WARM,
            linewidths=linewidth,
            zorder=3,
            clip_on=False,
        )
    )


def _plain_axes(axes: Any) -> None:
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("bottom", "left"))
        spine.set_color("#b9bdc5")
    axes.tick_params(colors=FAINT, labelsize=8, length=3)


def _running_mean(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], window: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    kernel = np.ones(window) / window
    return np.convolve(x, kernel, mode="valid"), np.convolve(y, kernel, mode="valid")
