"""Several runs in one picture: their losses, and their validation scores where there are some."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.display.style import ACCENT, LABEL, WARM, headline, new_figure, plain_axes, save

_COLOURS = (ACCENT, WARM, "#4b8b5a", "#8a5ba6", "#b58a2f", "#3b9aa5", "#a34a76", "#6b7280")


@dataclass(frozen=True)
class RunCurves:
    """What is drawn of a run.

    Attributes:
        name: in the legend.
        losses: (step, loss), in the order of the steps.
        scores: (step, validation score).
    """

    name: str
    losses: Sequence[tuple[int, float]]
    scores: Sequence[tuple[int, float]]


def draw_runs(runs: Sequence[RunCurves], out: Path) -> None:
    """Draw them into a PNG.

    Args:
        runs: at least one.
        out: the file; its folder is made.

    Raises:
        ValueError: no run.
    """
    if not runs:
        raise ValueError("no run to draw")
    panels = ["loss (nats)"] + ["validation score"] * any(run.scores for run in runs)
    figure = new_figure(5.2 * len(panels) + 0.8, 4.4)
    for number, label in enumerate(panels):
        width = 1 / len(panels)
        axes = figure.add_axes((number * width + 0.09 * width, 0.14, 0.86 * width, 0.72))
        for index, run in enumerate(runs):
            colour = _COLOURS[index % len(_COLOURS)]
            points = np.array(run.scores if number else run.losses, float).reshape(-1, 2)
            if number:
                axes.plot(*points.T, color=colour, marker="o", markersize=3, label=run.name)
                continue
            window = max(1, len(points) // 25)
            axes.plot(*points.T, color=colour, linewidth=0.6, alpha=0.3)
            kernel = np.ones(window) / window
            smooth = [np.convolve(column, kernel, mode="valid") for column in points.T]
            if len(points):
                axes.plot(*smooth, color=colour, linewidth=1.8, label=run.name)
        axes.set_xlabel("optimizer step", **LABEL)
        axes.set_ylabel(label, **LABEL)
        plain_axes(axes, grid="y")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=9)
    headline(figure, " · ".join(run.name for run in runs))
    save(figure, out)
