"""The contrast matrix c and the weight matrix w as a picture, rows and columns named by factor.

Rows that share a draw stand under one bracket, factor by factor from the outside in, so that a name
is written once and not in every row. A factor whose brackets would be too thin for a name is left
out.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from tools.display.style import (
    ACCENT,
    FAINT,
    HEADLINE_INCHES,
    INK,
    LABEL,
    MARGIN_INCHES,
    WARM,
    headline,
    new_figure,
    save,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gdt import Plan

_MATRIX_INCHES: Final = 5.4  # the longer side of each matrix, where cells may be so small or large
_CELL_INCHES: Final = (0.055, 0.42)
_TEXT_INCHES: Final = 0.125  # what a line of names needs
_CHARACTER_INCHES: Final = 0.075
_LEVEL_GAP_INCHES: Final = 0.16
_PANEL_GAP_INCHES: Final = 0.45
_DRAW: Final[dict[str, Any]] = {"fontsize": 8, "color": INK}
_FACTOR: Final[dict[str, Any]] = {"fontsize": 8, "color": ACCENT}


class Bracket(NamedTuple):
    """Rows or columns [start, stop) that share a draw, and its name."""

    start: int
    stop: int
    name: str


#: factor, as its place in the plan → its brackets, for the factors whose names have room
Levels = dict[int, list[Bracket]]


def draw_matrices(plan: "Plan", codes: "Tensor", out: Path, *, title: str = "") -> None:
    """Draw c and w of a plan between all of `codes`, as a PNG.

    Args:
        plan: that relates the codes.
        codes: int64 [K, M], queries and keys alike.
        out: the PNG to write; its folder is made.
        title: a line on top.
    """
    names = [plan.draw_names(code) for code in codes]
    contrast, weight = plan.contrast(codes, codes).numpy(), plan.weight(codes, codes).numpy()
    matrices(contrast, weight, plan.names, names, names, out, title=title)


def matrices(
    contrast: npt.ArrayLike,
    weight: npt.ArrayLike,
    factors: Sequence[str],
    row_names: Sequence[Sequence[str]],
    column_names: Sequence[Sequence[str]],
    out: Path,
    *,
    title: str = "",
) -> None:
    """Draw the contrast matrix c and the weight matrix w side by side, as a PNG.

    Pairs with c·w ≠ 0, the positives of the loss, are outlined in both.

    Args:
        contrast: [Q, K], c of the paper: 1 where the pair is positive.
        weight: [Q, K], w of the paper: 1 where the pair takes part.
        factors: M names of factors, the outermost first.
        row_names: Q times M names of draws, such as ["0", "1", "video"].
        column_names: K times M names.
        out: the PNG to write; its folder is made.
        title: a line on top.

    Raises:
        ValueError: shapes and names that do not fit each other.
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
    cell = float(np.clip(_MATRIX_INCHES / max(expected), *_CELL_INCHES))
    rows, columns = (brackets(names, cell) for names in (row_names, column_names))
    width, height = expected[1] * cell, expected[0] * cell
    left = MARGIN_INCHES + sum(_level_sizes(rows).values())
    over_rows = max((len(factors[level]) for level in rows), default=0) * _CHARACTER_INCHES + 0.2
    over_columns = sum(_level_sizes(columns, cell).values())
    top = (HEADLINE_INCHES if title else 0.15) + max(over_columns, over_rows)
    page_width = max(left + 2 * width + _PANEL_GAP_INCHES + MARGIN_INCHES, 6.5)
    page = _Page(page_width, top + height + 0.85)
    if title:
        headline(page.figure, title)
    for place, (name, table) in enumerate(tables.items()):
        x = left + place * (width + _PANEL_GAP_INCHES)
        _draw_table(page.axes(x, top, width, height), table, positive, cell)
        page.column_brackets(columns, x, top, cell)
        words = f"{name}: {np.count_nonzero(table)} of {table.size} not zero"
        page.text(x + width / 2, top + height + 0.28, words, ha="center", **LABEL)
    page.row_brackets(rows, factors, left, top, cell)
    words = f"outlined: c·w ≠ 0, the {np.count_nonzero(positive)} positive pairs of the loss"
    page.text(left, top + height + 0.6, words, fontsize=9, color=WARM)
    save(page.figure, out)


def brackets(names: Sequence[Sequence[str]], cell_inches: float) -> Levels:
    """The brackets over equal draws, factor by factor, where names have room.

    Args:
        names: K times M names of draws.
        cell_inches: width of a row or column.
    """
    levels: Levels = {}
    for level in range(len(names[0])):
        found: list[Bracket] = []
        for _, run in groupby(range(len(names)), key=lambda i: list(names[i][: level + 1])):
            places = list(run)
            found.append(Bracket(places[0], places[-1] + 1, names[places[0]][level]))
        if min(bracket.stop - bracket.start for bracket in found) * cell_inches >= _TEXT_INCHES:
            levels[level] = found
    return levels


def _level_sizes(levels: Levels, across_inches: float = 0.0) -> dict[int, float]:
    """Inches that a factor's names and bracket take beside a matrix.

    Args:
        levels: of its rows or columns.
        across_inches: of columns, their width: a name that fits between them takes one line.
    """
    return {
        level: max(_extent(bracket, across_inches) for bracket in found) + _LEVEL_GAP_INCHES
        for level, found in levels.items()
    }


def _extent(bracket: Bracket, across_inches: float) -> float:
    length = len(bracket.name) * _CHARACTER_INCHES
    fits = length <= (bracket.stop - bracket.start) * across_inches
    return _CHARACTER_INCHES if fits else length


def _distances(sizes: dict[int, float]) -> dict[int, float]:
    """Inches from the matrix to a factor's brackets: those further in lie between."""
    return {level: sum(s for inner, s in sizes.items() if inner > level) for level in sizes}


class _Page:
    """A figure to draw on in inches from its top left corner."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = new_figure(width, height)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        place = (x / self.width, 1 - (y + height) / self.height)
        return self.figure.add_axes((*place, width / self.width, height / self.height))

    def text(self, x: float, y: float, text: str, **style: Any) -> None:
        self.figure.text(x / self.width, 1 - y / self.height, text, parse_math=False, **style)

    def line(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        from matplotlib.lines import Line2D

        x, y = np.asarray(xs) / self.width, 1 - np.asarray(ys) / self.height
        line = Line2D(x, y, color=FAINT, linewidth=0.8, transform=self.figure.transFigure)
        self.figure.add_artist(line)

    def row_brackets(
        self, levels: Levels, factors: Sequence[str], left: float, top: float, cell: float
    ) -> None:
        """To the left of a matrix that begins at (left, top); the factors' names over them."""
        for level, distance in _distances(_level_sizes(levels)).items():
            x = left - distance - 0.06
            for bracket in levels[level]:
                first, last = top + bracket.start * cell, top + bracket.stop * cell
                self.line([x, x], [first + 0.015, last - 0.015])
                middle = (first + last) / 2
                self.text(x - 0.05, middle, bracket.name, ha="right", va="center", **_DRAW)
            self.text(x, top - 0.1, factors[level], rotation=90, ha="right", va="bottom", **_FACTOR)

    def column_brackets(self, levels: Levels, left: float, top: float, cell: float) -> None:
        """Over a matrix that begins at (left, top)."""
        for level, distance in _distances(_level_sizes(levels, cell)).items():
            y = top - distance - 0.06
            for bracket in levels[level]:
                first, last = left + bracket.start * cell, left + bracket.stop * cell
                self.line([first + 0.015, last - 0.015], [y, y])
                upright = _extent(bracket, cell) > _CHARACTER_INCHES
                style = {"rotation": 90 if upright else 0, "ha": "center", "va": "bottom", **_DRAW}
                self.text((first + last) / 2, y - 0.05, bracket.name, **style)


def _draw_table(
    axes: Any, table: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], cell: float
) -> None:
    num_rows, num_columns = table.shape
    top = max(1.0, float(table.max()))
    axes.imshow(table, cmap="Blues", vmin=0.0, vmax=top * 1.25, aspect="auto")
    axes.set_xticks(np.arange(num_columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(num_rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#d9dce1", linewidth=min(0.5, cell * 3))
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axes.spines[:].set_visible(False)
    _outline(axes, positive, linewidth=float(np.clip(cell * 4, 0.4, 1.6)))
    if cell >= 0.2:
        _cell_values(axes, table, top, min(8.0, cell * 72 * 0.45))


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
