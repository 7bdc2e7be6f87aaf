"""At which ranks right answers stand: a histogram with bins that grow, as SVG, beside chance."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tools.display.page_parts import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 420, 190, 34, 22, 12


def bins_of(num_items: int) -> list[tuple[int, int]]:
    """First and last rank of each bin: 1, 2–5, 6–10, 11–20, 21–50, … up to the gallery's size."""
    lasts, scale = [1], 1
    while lasts[-1] < num_items:
        for step in (2, 5, 10):
            last = step * scale
            if last > 2 and lasts[-1] < num_items:
                lasts.append(min(last, num_items))
        scale *= 10
    firsts = [1, *(last + 1 for last in lasts[:-1])]
    return [(a, b) for a, b in zip(firsts, lasts, strict=True) if a <= b]


def histogram_svg(
    ranks: npt.NDArray[np.float64], num_items: int, chance_shares: Sequence[float] | None = None
) -> str:
    """Shares of the queries by the rank of their right answer, chance as a line over each bar.

    Args:
        ranks: one a query, from 1 to `num_items`.
        num_items: size of the gallery.
        chance_shares: one a bin; by default those of one right answer: the bin's share of ranks.
    """
    bins = bins_of(num_items)
    shares = [float(((ranks >= a - 0.5) & (ranks < b + 0.5)).mean()) for a, b in bins]
    chance = chance_shares or [(b - a + 1) / num_items for a, b in bins]
    most = max(*shares, *chance, 1e-9)
    step = (_WIDTH - _LEFT) / len(bins)
    height = _HEIGHT - _BOTTOM - _TOP
    parts = []
    for number, ((a, b), share, by_chance) in enumerate(zip(bins, shares, chance, strict=True)):
        x, width = _LEFT + number * step + 0.12 * step, 0.76 * step
        y = _TOP + height * (1 - share / most)
        at = _TOP + height * (1 - by_chance / most)
        name = str(a) if a == b else f"{a}–{b}"
        parts.append(
            f"<g><title>rank {name}: {100 * share:.1f} % (chance {100 * by_chance:.1f} %)</title>"
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            f'height="{_TOP + height - y:.1f}"/>'
            f'<line class="chance" x1="{x:.1f}" x2="{x + width:.1f}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{x + width / 2:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">'
            f"{escape(str(b))}</text></g>"
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="ranks of the right answers">'
        f'<text x="0" y="{_TOP + 4}">{100 * most:.0f} %</text>'
        f'<text x="0" y="{_TOP + height}">0</text>{"".join(parts)}</svg>'
    )
