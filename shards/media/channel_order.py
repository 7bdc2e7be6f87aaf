"""Audio whose channels lie in an order of their own, as QuickTime may say, brought to FFmpeg's.

PyAV (18) frees such a layout twice, which ends the process or damages its memory. So a decoder is
given a layout in FFmpeg's order before anything is decoded; its channels are put in order after.
"""

from typing import Any

import av
import numpy as np

from shards.errors import SourceError

_OWN_ORDER = " channels ("  # in the names of such layouts alone
#: FFmpeg's order, which is that of WAVEFORMATEXTENSIBLE.
_NATIVE = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR", "TC", "TFL", "TFC"),
    *("TFR", "TBL", "TBC", "TBR", "DL", "DR", "WL", "WR"),
)


def settle_order(codec: Any) -> tuple[int, ...] | None:
    """Give a decoder that is not open yet a layout that can be freed; call it before all else.

    Returns:
        Which of the source's channels comes first, second, … in FFmpeg's order; None where they
        lie in it.

    Raises:
        SourceError: a channel has no place in FFmpeg's order, or two have one.
    """
    if codec.is_open:
        return None
    layout = codec.layout  # shares what the decoder holds, until that is given another
    if _OWN_ORDER not in layout.name:
        return None
    names, shown = [channel.name for channel in layout.channels], layout.name
    codec.layout = f"{len(names)}c"
    del layout
    if len(set(names)) < len(names) or not set(names) <= set(_NATIVE):
        raise SourceError("probe", "the audio has channels in an unknown order", shown[:120])
    order = sorted(range(len(names)), key=lambda n: _NATIVE.index(names[n]))
    codec.layout = "+".join(names[n] for n in order)
    return tuple(order)


def reordered(frame: Any, order: tuple[int, ...]) -> Any:
    """A decoded frame with its channels in FFmpeg's order; its times stay."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, len(order)).T
    samples = samples[list(order)]
    if not frame.format.is_planar:
        samples = samples.T.reshape(1, -1)
    moved = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(samples), frame.format.name, frame.layout
    )
    moved.sample_rate, moved.time_base, moved.pts = frame.sample_rate, frame.time_base, frame.pts
    return moved
