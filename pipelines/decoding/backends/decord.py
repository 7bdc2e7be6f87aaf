"""Decode video with decord, for comparison and for those who come from it.

The packets of a segment become one small file (feed.py), so decord's frame numbers are ours,
whatever the source was. It gives RGB only; that is turned back into planes with the matrix that
decord used, which costs rounding (some 47 dB) and time. Its last release is of 2021; audio is the
default's.
"""

import io
import threading
from collections import Counter
from importlib import import_module
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from pipelines.color import rgb_from_yuv
from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.backends.backend import AudioRequest, FrameRequest, MediaError
from pipelines.decoding.backends.feed import Feed, feed_of
from pipelines.skips import MismatchError
from shards import Track

__all__ = ["DecordDecoder"]

#: What the FFmpeg inside decord's wheel decodes.
_CODECS: Final = ("h264", "hevc", "mjpeg", "mpeg4", "vp8", "vp9")
_BT709: Final = 1  # ITU-T H.273; decord takes BT.601 for a stream that does not say


class DecordDecoder:
    """Video by decord, audio by PyAV; see `Backend`.

    Args:
        fallback: what becomes of streams that decord does not take, of `FALLBACKS`.

    Attributes:
        device: "cpu".
        fallbacks: how many samples the default backend decoded instead, by cause.

    Raises:
        ImportError: decord is missing; says what to install.
    """

    device = "cpu"

    def __init__(self, fallback: str = "count") -> None:
        self.fallback = fallback
        self.fallbacks: Counter[str] = Counter()
        self._library = _load()
        self._default = PacketDecoder()
        self._matrices: dict[tuple[Any, ...], str] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return (DecordDecoder, (self.fallback,))

    def frames(self, request: FrameRequest, out: NDArray[np.uint8]) -> None:
        """See `Backend.frames`.

        Raises:
            MediaError: as the protocol says.
            MismatchError: decord does not take the codec, and `fallback` is "refuse".
        """
        track, height, width = request.track, request.height, request.width
        if track.codec not in _CODECS:
            cause = f"decord does not decode {track.codec}"
            if self.fallback == "refuse":
                raise MismatchError(
                    f"{cause}; build the shards with one of {', '.join(_CODECS)}, or set fallback "
                    "= 'count' to decode these with the default"
                )
        elif (track.height, track.width) != (height, width):
            cause = "another size"  # scaling is swscale's, for all backends alike
        else:
            self._decode(track, feed_of(request.read, track, request.wanted), out, height, width)
            return
        self._default.frames(request, out)
        with self._lock:
            self.fallbacks[cause] += 1

    def samples(self, request: AudioRequest, out: NDArray[np.float32]) -> None:
        """See `Backend.samples`."""
        self._default.samples(request, out)

    def _decode(
        self, track: Track, feed: Feed, out: NDArray[np.uint8], height: int, width: int
    ) -> None:
        try:
            reader = self._library.VideoReader(
                io.BytesIO(feed.file), ctx=self._library.cpu(0), num_threads=1
            )
            images = reader.get_batch(feed.numbers).asnumpy()  # [U, H, W, 3]
        except (self._library.DECORDError, RuntimeError, IndexError, AssertionError) as error:
            message = " ".join(str(error).split())[:200]
            raise MediaError("decode", f"decord, {track.codec}: {message}") from error
        if images.shape[1:] != (height, width, 3):
            raise MediaError(
                "decode",
                f"a frame is {images.shape[2]}×{images.shape[1]}, the index says "
                f"{width}×{height}: use decoder = 'av'",
            )
        to_rgb = rgb_from_yuv(self._matrix(track, feed), track.color_range or "limited")
        rows = np.stack([_i420(image, to_rgb) for image in images])
        out[:] = rows[feed.places]

    def _matrix(self, track: Track, feed: Feed) -> str:
        """The matrix that decord used: the stream's own, or BT.601 where it has none."""
        header = (track.codec, track.extradata, track.width, track.height)
        with self._lock:
            if header not in self._matrices:
                container: Any = av.open(io.BytesIO(feed.file), format="matroska")
                with container:
                    frame = next(container.decode(video=0))
                self._matrices[header] = "bt709" if frame.colorspace == _BT709 else "bt601"
            return self._matrices[header]


def _i420(image: NDArray[np.uint8], to_rgb: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Planes [H·W·3/2] of an RGB image [H, W, 3]; chroma is the mean of its four pixels."""
    height, width, _ = image.shape
    to_yuv = np.linalg.inv(to_rgb[:, :3]).astype(np.float32)
    rgb = image.astype(np.float32) / 255 - to_rgb[:, 3].astype(np.float32)
    luma = rgb @ to_yuv[0]
    quarter = rgb.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    chroma = np.moveaxis(quarter @ to_yuv[1:].T, -1, 0)
    planes = np.concatenate([luma.ravel(), chroma.ravel()])
    return np.asarray(np.rint(planes).clip(0, 255), np.uint8)


def _load() -> Any:
    try:
        return import_module("decord")
    except (ImportError, OSError, RuntimeError) as error:
        raise ImportError(
            "decoder 'decord' needs decord: pip install 'gdt-stream[decord]' (there are wheels for "
            f"x86-64 only). What went wrong: {str(error).splitlines()[0]}"
        ) from error
