"""Decode still images (JPEG, PNG, WebP) upright, into planes like those of video frames.

The middle of the image that has the wanted shape is scaled to the wanted size, in BT.709, limited
range, by the filter chain that builds shards (shards/media/frame_fitting.py). JPEG and WebP are
BT.601; JPEG and grey PNG use the full range; what is RGB needs no matrix.
"""

import threading
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import FrameRequest, MediaError
from pipelines.decoding.backends.packets import read_packets
from shards import SourceError
from shards.media.container import describe
from shards.media.frame_fitting import FrameFitter
from shards.media.limits import MAX_PIXELS
from shards.media.padded_packet import padded_packet
from shards.media.still import StillHeader, still_header

__all__ = ["StillDecoder"]

_BT601, _FULL = 5, 2  # ITU-T H.273; FFmpeg's AVCOL_RANGE_JPEG


@dataclass(frozen=True)
class _Size:
    """What images are fitted to."""

    width: int
    height: int
    fit: str = "crop"


class StillDecoder:
    """Decoder of still images; each thread keeps the filter chain of the size it met last."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def image(self, request: FrameRequest, out: NDArray[np.uint8]) -> None:
        """Decode a track that is one still into `out`, uint8 [H·W·3/2], I420.

        Raises:
            MediaError: the checksum is wrong, or the file cannot be decoded.
        """
        (body,) = read_packets(request.read, request.track, 0, 1)
        try:
            header = still_header(body)
            frame = _decoded(header, body)
            frame = self._fitter(request.width, request.height).fit(frame, header.turn)
        except SourceError as error:
            raise MediaError("open", str(error).removeprefix(f"{error.stage}: ")) from error
        except (av.FFmpegError, ValueError) as error:
            raise MediaError("decode", f"{request.track.codec}: {describe(error)}") from error
        place = 0
        for plane in frame.planes:
            rows, columns = plane.height, plane.width
            pixels = np.ndarray((rows, columns), np.uint8, plane, 0, (plane.line_size, 1))
            out[place : place + rows * columns].reshape(rows, columns)[:] = pixels
            place += rows * columns

    def _fitter(self, width: int, height: int) -> FrameFitter:
        size = _Size(width, height)
        if getattr(self._of_thread, "size", None) != size:
            self._of_thread.size = size
            self._of_thread.fitter = FrameFitter(size, None)
        fitter: FrameFitter = self._of_thread.fitter
        return fitter


def _decoded(header: StillHeader, body: Any) -> Any:
    """The frame, with what its codec leaves unsaid about its colours."""
    context: Any = av.CodecContext.create(header.codec, "r")
    context.thread_count = 1
    context.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "crccheck+explode"}
    frames = [*context.decode(padded_packet(body)), *context.decode(None)]
    if not frames or frames[0].is_corrupt:
        raise MediaError("decode", f"{header.codec}: no whole image came out")
    frame = frames[0]
    if (frame.width, frame.height) != (header.width, header.height):
        raise MediaError(
            "decode",
            f"{header.codec}: the image is {frame.width}×{frame.height}, its header says "
            f"{header.width}×{header.height}",
        )
    form = frame.format
    if not (form.is_rgb or form.has_palette):
        frame.colorspace = _BT601
        if header.codec != "webp":
            frame.color_range = _FULL
    return frame
