"""Pictures of correspondence: where walks through a clip go, and colours that were copied.

Legend: T frames, H W pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tools.display.style import (
    HEADLINE_INCHES,
    MARGIN_INCHES,
    NOTE,
    PAGE_WIDTH_INCHES,
    headline,
    new_figure,
    save,
)

_LABEL_INCHES = 1.25
_GAP_INCHES = 0.06
_GRAY: Final = np.array([0.299, 0.587, 0.114])
_HEAT: Final = np.array([240.0, 120.0, 0.0])

Picture = npt.NDArray[np.uint8]


def picture_rows(rows: Mapping[str, Sequence[Picture]], title: str, note: str, out: Path) -> None:
    """Write rows of pictures [H, W, 3] of one size under a title, each row with its name."""
    columns = max(len(row) for row in rows.values())
    height, width = next(iter(rows.values()))[0].shape[:2]
    wide = (PAGE_WIDTH_INCHES - 2 * MARGIN_INCHES - _LABEL_INCHES) / columns - _GAP_INCHES
    high = wide * height / width
    page = HEADLINE_INCHES + len(rows) * (high + _GAP_INCHES) + MARGIN_INCHES
    figure = new_figure(PAGE_WIDTH_INCHES, page)
    headline(figure, title, note)
    for row, (name, pictures) in enumerate(rows.items()):
        bottom = page - HEADLINE_INCHES - (row + 1) * (high + _GAP_INCHES)
        middle = (bottom + high / 2) / page
        figure.text(MARGIN_INCHES / PAGE_WIDTH_INCHES, middle, name, va="center", **NOTE)
        for column, picture in enumerate(pictures):
            left = MARGIN_INCHES + _LABEL_INCHES + column * (wide + _GAP_INCHES)
            box = left / PAGE_WIDTH_INCHES, bottom / page
            axes = figure.add_axes((*box, wide / PAGE_WIDTH_INCHES, high / page))
            axes.imshow(picture, aspect="auto", interpolation="nearest")
            axes.set_axis_off()
    save(figure, out)


def heated(frame: Picture, chances: npt.NDArray[np.floating[Any]]) -> Picture:
    """Return a frame [H, W, 3] in gray, warm where a walker is likely to be.

    Args:
        frame: uint8.
        chances: [h, w], of the cells of its map; the likeliest is the warmest.
    """
    height, width = frame.shape[:2]
    rows = np.arange(height) * chances.shape[0] // height
    columns = np.arange(width) * chances.shape[1] // width
    heat = np.sqrt(chances / max(float(chances.max()), 1e-12))[rows[:, None], columns][..., None]
    gray = np.repeat((frame @ _GRAY)[..., None], 3, axis=2)
    return np.asarray(gray + 0.85 * heat * (_HEAT - gray), np.uint8)
