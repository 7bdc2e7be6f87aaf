"""The training loss over the steps, beside the loss of an encoder that knows nothing."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.display.style import ACCENT, LABEL, WARM, headline, new_figure, plain_axes, save


def loss_curve(
    steps: npt.ArrayLike,
    losses: npt.ArrayLike,
    out: Path,
    *,
    chance: float | None = None,
    title: str = "",
    chance_name: str = "chance: log K",
) -> None:
    """Draw the loss over the steps, beside the loss of an encoder that knows nothing.

    Args:
        steps: [N] optimizer steps.
        losses: [N] the loss of each, in nats; values that are not finite leave a gap.
        out: the PNG to write; its folder is made.
        chance: the loss when all embeddings are equal: the log of the number K of keys that a
            query is compared with. Drawn as a line.
        title: A line on top.
        chance_name: what the chance line is called.

    Raises:
        ValueError: no steps, or not one loss for each step.
    """
    x = np.asarray(steps, float)
    y = np.asarray(losses, float)
    if x.shape != y.shape or x.ndim != 1 or x.size == 0:
        raise ValueError(
            f"loss curve: {list(x.shape)} steps and {list(y.shape)} losses; "
            "expected two lists of the same length, at least 1"
        )
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(8.0, 4.4)
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
    axes.set_xlabel("optimizer step", **LABEL)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("loss (nats)", **LABEL)
    plain_axes(axes, grid="y")
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    if title:
        headline(figure, title)
    save(figure, out)


def _running_mean(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], window: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    kernel = np.ones(window) / window
    return np.convolve(x, kernel, mode="valid"), np.convolve(y, kernel, mode="valid")
