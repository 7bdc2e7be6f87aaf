"""Propagated masks over the frames of clips: a row for the truth and for each way to match.

Legend: H W pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tools.display.style import (
    HEADLINE_INCHES,
    LABEL,
    MARGIN_INCHES,
    NOTE,
    PAGE_WIDTH_INCHES,
    headline,
    new_figure,
    save,
)

_LABEL_INCHES = 1.25
_GAP_INCHES = 0.05
_BETWEEN_CLIPS_INCHES = 0.4
#: Of objects 1, 2, …; told apart by people who do not see red and green as others do.
_COLORS: Final = np.array(
    [(230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115), (240, 228, 66), (213, 94, 0)]
)
_OPACITY = 0.6
_GRAY: Final = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class MaskedFrames:
    """A clip to draw.

    Attributes:
        name: of the clip.
        numbers: of the frames that are shown.
        frames: uint8 [H, W, 3], one for each number.
        masks: what made them → uint8 [H, W], one for each number.
    """

    name: str
    numbers: Sequence[int]
    frames: Sequence[npt.NDArray[np.uint8]]
    masks: Mapping[str, Sequence[npt.NDArray[np.uint8]]]


def propagated_picture(clips: Sequence[MaskedFrames], out: Path) -> None:
    """Write the picture as a PNG: frames from left to right, a block of rows for each clip."""
    columns = max(len(clip.numbers) for clip in clips)
    width = (PAGE_WIDTH_INCHES - 2 * MARGIN_INCHES - _LABEL_INCHES) / columns - _GAP_INCHES
    heights = [width * clip.frames[0].shape[0] / clip.frames[0].shape[1] for clip in clips]
    blocks = [
        len(clip.masks) * (height + _GAP_INCHES) + _BETWEEN_CLIPS_INCHES
        for clip, height in zip(clips, heights, strict=True)
    ]
    page_height = HEADLINE_INCHES + sum(blocks) + MARGIN_INCHES
    figure = new_figure(PAGE_WIDTH_INCHES, page_height)
    headline(figure, "Masks carried on from the first frame", "the first column is given")
    top = HEADLINE_INCHES
    for clip, height, block in zip(clips, heights, blocks, strict=True):
        x, y = MARGIN_INCHES / PAGE_WIDTH_INCHES, 1 - (top + 0.22) / page_height
        figure.text(x, y, clip.name, parse_math=False, **LABEL)
        for row, (way, masks) in enumerate(clip.masks.items()):
            down = top + 0.3 + row * (height + _GAP_INCHES)
            middle = 1 - (down + height / 2) / page_height
            figure.text(x, middle, way, va="center", parse_math=False, **NOTE)
            for column, (frame, mask) in enumerate(zip(clip.frames, masks, strict=True)):
                left = MARGIN_INCHES + _LABEL_INCHES + column * (width + _GAP_INCHES)
                place = (left, page_height - down - height, width, height)
                axes = figure.add_axes(
                    (
                        place[0] / PAGE_WIDTH_INCHES,
                        place[1] / page_height,
                        place[2] / PAGE_WIDTH_INCHES,
                        place[3] / page_height,
                    )
                )
                axes.imshow(overlaid(frame, mask), aspect="auto", interpolation="nearest")
                axes.set_axis_off()
        top += block
    save(figure, out)


def overlaid(frame: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a frame [H, W, 3] in gray, each object of a mask [H, W] in a colour of its own."""
    gray = np.repeat((frame @ _GRAY)[..., None], 3, axis=2)
    colors = _COLORS[(mask.astype(int) - 1) % len(_COLORS)]
    mixed = np.where((mask > 0)[..., None], gray + _OPACITY * (colors - gray), gray)
    return mixed.astype(np.uint8)
