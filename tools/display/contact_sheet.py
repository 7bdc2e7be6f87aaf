"""Contact sheets: one-second segments as strips of frames over their log-mel, on one time axis.

Legend: T frames, H height, W width, F mel bins, L log-mel columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.shown import shown
from tools.display.style import (
    FAINT,
    HEADLINE_INCHES,
    LABEL,
    MARGIN_INCHES,
    NOTE,
    PAGE_WIDTH_INCHES,
    headline,
    new_figure,
    plain_axes,
    save,
)

LEFT_INCHES = 0.9  # for the numbers of mel bins
MEL_INCHES = 0.85
NAME_INCHES = 0.34
AXIS_INCHES = 0.42


@dataclass(frozen=True)
class ContactRow:
    """One segment to show: its frames over its log-mel, on one clock.

    Attributes:
        name: what the row is called: where the segment is from.
        start_seconds: where the segment begins, on the clip's clock.
        stop_seconds: where it ends (excluded).
        frames: uint8 [T, H, W, 3] RGB, evenly spaced over the segment; None without video.
        log_mel: float [F, L], mel bins by time; None without audio.
        note: anything else worth a few words (a label, say).

    Raises:
        ValueError: times out of order, a wrong shape, or neither frames nor log-mel.
    """

    name: str
    start_seconds: float
    stop_seconds: float
    frames: npt.NDArray[np.uint8] | None = None
    log_mel: npt.NDArray[np.floating[Any]] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if not self.start_seconds < self.stop_seconds:
            raise ValueError(
                f"contact row {self.name!r}: the segment [{self.start_seconds}, "
                f"{self.stop_seconds}) s is empty; the start must come before the stop"
            )
        if self.frames is None and self.log_mel is None:
            raise ValueError(f"contact row {self.name!r}: nothing to draw; give frames or log_mel")
        if self.frames is not None and (self.frames.ndim != 4 or self.frames.shape[-1] != 3):
            raise ValueError(
                f"contact row {self.name!r}: frames have shape {self.frames.shape}; "
                "expected [T, H, W, 3] RGB"
            )
        if self.log_mel is not None and self.log_mel.ndim != 2:
            raise ValueError(
                f"contact row {self.name!r}: log_mel has shape {self.log_mel.shape}; "
                "expected [F, L]"
            )

    def __repr__(self) -> str:
        frames = None if self.frames is None else self.frames.shape
        log_mel = None if self.log_mel is None else self.log_mel.shape
        return (
            f"ContactRow({self.name!r}, [{self.start_seconds:.3f}, {self.stop_seconds:.3f}) s, "
            f"frames={frames}, log_mel={log_mel})"
        )


def contact_sheet(
    rows: Sequence[ContactRow],
    out: Path,
    *,
    title: str = "",
    note: str = "",
    num_frames: int = 10,
) -> None:
    """Draw each segment as a strip of frames over its log-mel on one time axis, as a PNG.

    Args:
        rows: the segments, from top to bottom.
        out: the PNG to write; its folder is made.
        title: A line on top.
        note: faint words behind the title.
        num_frames: at most so many frames of a segment are drawn, evenly spaced.

    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("contact sheet: no segments to draw; give at least one ContactRow")
    strips = [None if row.frames is None else _strip(row.frames, num_frames) for row in rows]
    axis_width = PAGE_WIDTH_INCHES - LEFT_INCHES - MARGIN_INCHES
    heights = [
        (
            0.0 if strip is None else axis_width * strip.shape[0] / strip.shape[1],
            0.0 if row.log_mel is None else MEL_INCHES,
        )
        for row, strip in zip(rows, strips, strict=True)
    ]
    top = HEADLINE_INCHES if title else 0.1
    height = top + sum(a + b + NAME_INCHES + AXIS_INCHES for a, b in heights)
    figure = new_figure(PAGE_WIDTH_INCHES, height)
    if title:
        headline(figure, title, note)
    for row, strip, sizes in zip(rows, strips, heights, strict=True):
        top += NAME_INCHES
        _name(figure, row, top)
        panels = [(strip, sizes[0], _draw_strip), (row.log_mel, sizes[1], _draw_log_mel)]
        axes = None
        for picture, panel_height, draw in panels:
            if picture is not None:
                top += panel_height
                axes = _panel(figure, top, panel_height)
                draw(axes, picture, row)
        ticks = np.linspace(row.start_seconds, row.stop_seconds, 6)
        assert axes is not None  # a row has one of the two
        axes.set_xticks(ticks, [f"{t:.2f} s" for t in ticks])
        plain_axes(axes)
        top += AXIS_INCHES
    save(figure, out)


def _name(figure: Any, row: ContactRow, top: float) -> None:
    width, height = figure.get_size_inches()
    y = 1 - (top - 0.08) / height
    figure.text(LEFT_INCHES / width, y, shown(row.name), weight="bold", parse_math=False, **LABEL)
    right = 1 - MARGIN_INCHES / width
    figure.text(right, y, shown(row.note), ha="right", parse_math=False, **NOTE)


def _panel(figure: Any, bottom: float, panel_height: float) -> Any:
    """Axes that end `bottom` inches below the top of the figure."""
    width, height = figure.get_size_inches()
    left, right = LEFT_INCHES / width, 1 - MARGIN_INCHES / width
    return figure.add_axes((left, 1 - bottom / height, right - left, panel_height / height))


def _draw_strip(axes: Any, strip: npt.NDArray[Any], row: ContactRow) -> None:
    extent = (row.start_seconds, row.stop_seconds, 0, 1)
    axes.imshow(strip, extent=extent, aspect="auto", interpolation="lanczos")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _draw_log_mel(axes: Any, log_mel: npt.NDArray[Any], row: ContactRow) -> None:
    num_bins = log_mel.shape[0]
    axes.imshow(
        log_mel,
        extent=(row.start_seconds, row.stop_seconds, 0, num_bins),
        aspect="auto",
        origin="lower",
        cmap="magma",
        interpolation="nearest",
    )
    axes.set_yticks([0, num_bins])
    axes.set_ylabel("mel bin", fontsize=8, color=FAINT, labelpad=1)


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
