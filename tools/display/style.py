"""One style for all pictures: colours, a headline, plain axes, and how a figure becomes a PNG.

Figures are matplotlib's, each on its own: no global state, no screen.
"""

from pathlib import Path
from typing import Any, Final

from shards.shown import shown

INK: Final = "#22252b"
FAINT: Final = "#8a8f98"
GRID: Final = "#e4e6ea"
ACCENT: Final = "#2a6fb0"
WARM: Final = "#c8553d"
PAGE_WIDTH_INCHES: Final = 11.0
MARGIN_INCHES: Final = 0.35
HEADLINE_INCHES: Final = 0.55

HEADLINE: Final[dict[str, Any]] = {"fontsize": 13, "color": INK, "weight": "bold"}
LABEL: Final[dict[str, Any]] = {"fontsize": 9.5, "color": INK}
NOTE: Final[dict[str, Any]] = {"fontsize": 9, "color": FAINT}


def new_figure(width_inches: float, height_inches: float) -> Any:
    """A white figure of a given size that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def headline(figure: Any, text: str, note: str = "") -> None:
    """Write a title at the top of a figure, and a faint note after it."""
    width, height = figure.get_size_inches()
    place = MARGIN_INCHES / width, 1 - 0.32 / height
    title = figure.text(*place, shown(text), va="center", parse_math=False, **HEADLINE)
    if note:
        end = title.get_window_extent(figure.canvas.get_renderer()).x1 / (width * figure.dpi)
        figure.text(
            end + 0.2 / width, place[1], shown(note), va="center_baseline", parse_math=False, **NOTE
        )


def plain_axes(axes: Any, grid: str = "") -> None:
    """Keep only the bottom and left axes, faint; with grid "x" or "y", draw grid lines."""
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("bottom", "left"))
        spine.set_color("#b9bdc5")
    axes.tick_params(colors=FAINT, labelsize=8.5, length=3)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)


def save(figure: Any, out: Path) -> None:
    """Write a figure as a PNG; its folder is made."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, format="png", dpi=130)
