"""A decoded segment as arrays to display: RGB frames and a log-mel spectrogram.

Legend: T frames, H height, W width, F mel bins, L log-mel columns.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pipelines.decoding.segment import Segment
    from pipelines.device.options import LogMel
    from tools.display.contact_sheet import ContactRow


def rgb_frames(segment: "Segment") -> npt.NDArray[np.uint8]:
    """The frames of a segment that has video: uint8 [T, H, W, 3]."""
    import torch

    from pipelines.color import i420_to_rgb

    assert segment.video is not None
    rgb = i420_to_rgb(
        torch.from_numpy(segment.video),
        segment.height,
        segment.width,
        segment.color_matrix,
        segment.color_range,
    )  # T × 3 × H × W
    pixels: npt.NDArray[np.uint8] = (rgb * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return pixels


def log_mel(segment: "Segment", options: "LogMel") -> npt.NDArray[np.float32]:
    """The spectrogram of a segment that has audio: float32 [F, L]."""
    import torch

    from pipelines.device.log_mel import LogMelSpectrogram

    assert segment.audio is not None
    spectrogram = LogMelSpectrogram(options)(torch.from_numpy(segment.audio)[None])
    levels: npt.NDArray[np.float32] = spectrogram[0, 0].numpy()
    return levels


def contact_row(
    name: str, segment: "Segment", options: "LogMel | None" = None, *, note: str = ""
) -> "ContactRow":
    """What `contact_sheet` draws of a segment; what the segment lacks is left out.

    Args:
        name: where the segment is from.
        segment: with video, audio or both.
        options: of the spectrogram; None takes the defaults at the segment's sample rate.
        note: a few words for the end of the row's headline.
    """
    from pipelines.device.options import LogMel
    from tools.display.contact_sheet import ContactRow

    options = options or LogMel(sample_rate_hz=segment.sample_rate_hz)
    return ContactRow(
        name,
        segment.start_seconds,
        segment.stop_seconds,
        frames=None if segment.video is None else rgb_frames(segment),
        log_mel=None if segment.audio is None else log_mel(segment, options),
        note=note,
    )
