"""Decode video with torchcodec, on the CPU or on the GPU by NVDEC: planes as the codec left them.

The packets of a segment become one small file (feed.py); torchcodec's demuxer and packet decoder
hand back planes and not RGB, so every decoder gives the same bytes, and what comes after need not
know which one it was. On a GPU the planes never see the host.

NVDEC refuses some streams (a codec or size that the chip does not know). torchcodec would decode
those on the CPU without a word; here it is asked first, once for each codec header, and what it
refuses is decoded by the default backend and counted, or is an error, as `fallback` says.
"""

import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.color import i420_planes
from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.backends.backend import AudioRequest, FrameRequest, MediaError
from pipelines.decoding.backends.feed import Feed, feed_of
from pipelines.decoding.backends.gpu import current_gpu, decode_on_cpu, own_stream, require_nvcuvid
from pipelines.decoding.backends.matroska import CODEC_IDS, TICK_SECONDS
from pipelines.skips import MismatchError
from shards import Track

__all__ = ["TorchcodecDecoder"]

_PIXEL_FORMATS: Final = ("yuv420p", "yuvj420p", None)  # 8-bit 4:2:0, or not said
_ANOTHER_SIZE: Final = "another size"  # scaling is swscale's, for all backends alike
_NVDEC_SESSIONS: Final = 64  # kept for reuse; a session is used by one thread at a time


class TorchcodecDecoder:
    """Video by torchcodec, audio by PyAV; see `Backend`.

    Args:
        device: "cpu", or "cuda" for this process's GPU: where frames are decoded and come out.
        fallback: what becomes of streams that NVDEC refuses, of `FALLBACKS`.

    Attributes:
        device: "cpu", or the GPU by its number.
        fallbacks: how many samples the default backend decoded instead, by cause.

    Raises:
        ImportError: torchcodec, FFmpeg's libraries or NVDEC's are missing; says what to install.
        ValueError: "cuda" on a machine without a GPU.
    """

    def __init__(self, device: str = "cpu", fallback: str = "count") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise ValueError("decoder = 'nvdec' needs an NVIDIA GPU, and there is none: use 'av'")
        self.device, self.fallback = device, fallback
        self.fallbacks: Counter[str] = Counter()
        self._library = _load()
        if device == "cuda":
            require_nvcuvid()
            self.device = current_gpu()
            self._library.set_nvdec_cache_capacity(_NVDEC_SESSIONS)
        self._default = PacketDecoder()
        self._refusals: dict[tuple[Any, ...], str | None] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return (TorchcodecDecoder, (self.device.split(":")[0], self.fallback))

    def frames(self, request: FrameRequest, out: NDArray[np.uint8] | Tensor) -> None:
        """See `Backend.frames`; `out` is an array on the CPU or a tensor on `device`.

        Raises:
            MediaError: as the protocol says.
            MismatchError: the stream is refused, and `fallback` is "refuse".
        """
        track, height, width = request.track, request.height, request.width
        cause = _unsuited(request)
        if cause is None:
            feed = feed_of(request.read, track, request.wanted)
            cause = self._header_refusal(track, feed)
            if cause is None:
                planes = out if isinstance(out, Tensor) else torch.from_numpy(out)
                self._decode(track, feed, planes, height, width)
                return
        if self.fallback == "refuse" and cause != _ANOTHER_SIZE:
            raise MismatchError(
                f"{'torchcodec' if self.device == 'cpu' else 'NVDEC'} does not decode {cause}; "
                "build the shards with another codec or size, or set fallback = 'count' to decode "
                "these with 'av' on the CPU"
            )
        decode_on_cpu(self._default, request, out)
        with self._lock:
            self.fallbacks[cause] += 1
            is_new = self.fallbacks[cause] == 1
        if is_new and cause != _ANOTHER_SIZE:
            warnings.warn(f"decoded on the CPU: {cause}", stacklevel=2)

    def refusal(self, request: FrameRequest) -> str | None:
        """Why the default backend would decode this track in its place; None where it would not.

        Raises:
            MediaError: the wanted frames cannot be read, or say nothing.
        """
        cause = _unsuited(request)
        if cause is not None or not len(request.wanted):
            return cause
        feed = feed_of(request.read, request.track, request.wanted)
        return self._header_refusal(request.track, feed)

    def samples(self, request: AudioRequest, out: NDArray[np.float32]) -> None:
        """See `Backend.samples`."""
        self._default.samples(request, out)

    def _decode(self, track: Track, feed: Feed, planes: Tensor, height: int, width: int) -> None:
        rows: dict[int, list[int]] = {number: [] for number in feed.numbers.tolist()}
        for row, place in enumerate(feed.places.tolist()):
            rows[int(feed.numbers[place])].append(row)
        # Views of all rows are made in three calls: what is Python here holds up other threads.
        luma, chroma = i420_planes(planes, height, width)
        targets = [plane.unbind(0) for plane in (luma, *chroma.unbind(1))]
        # A frame's planes tell its format, be it yuv420p or nv12. To ask it for its name or size
        # costs 200 bytes each time that are never freed (torchcodec 0.17.0).
        half = (height // 2, width // 2, torch.uint8)
        expected = [(height, width, torch.uint8), half, half]
        with own_stream(planes.device):
            for number, frame in self._decoded(track, feed):
                if not (rows_of_frame := rows.pop(number, None)):
                    continue
                found = frame.planes
                if [(*plane.shape, plane.dtype) for plane in found] != expected:
                    shapes = ", ".join(f"{plane.dtype} {list(plane.shape)}" for plane in found)
                    raise MediaError(
                        "decode",
                        f"a frame's planes are {shapes}; the index says 8-bit 4:2:0 of "
                        f"{width}×{height}: use decoder = 'av'",
                    )
                first, *others = rows_of_frame
                for target, plane in zip(targets, found, strict=True):
                    target[first].copy_(plane)
                for row in others:
                    planes[row].copy_(planes[first])
                if not rows:
                    break
        if rows:
            raise MediaError(
                "decode",
                f"{len(rows)} of {len(feed.numbers)} frames did not come out, the first is number "
                f"{min(rows)} of its groups of pictures",
            )

    def _decoded(self, track: Track, feed: Feed) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers in the file."""
        try:
            demuxer = self._library.Demuxer(feed.file)
            decoder = demuxer.streams[0].make_decoder(device=self.device)
            for packet in demuxer:
                for frame in decoder.decode(packet):
                    yield round(frame.pts_seconds / TICK_SECONDS), frame
            for frame in decoder.drain():
                yield round(frame.pts_seconds / TICK_SECONDS), frame
        except (RuntimeError, ValueError) as error:
            raise _not_decoded(track, error) from error

    def _header_refusal(self, track: Track, feed: Feed) -> str | None:
        """Why NVDEC does not take streams with this header; None where it does."""
        if self.device == "cpu":
            return None
        header = (track.codec, track.extradata, track.width, track.height)
        with self._lock:
            if header not in self._refusals:
                try:
                    status = self._library.VideoDecoder(feed.file, device=self.device).cpu_fallback
                except (RuntimeError, ValueError) as error:
                    raise _not_decoded(track, error) from error
                name = f"{track.codec} {track.pixel_format} {track.width}×{track.height}"
                self._refusals[header] = f"{name}: {status}" if status else None
            return self._refusals[header]


def _unsuited(request: FrameRequest) -> str | None:
    track = request.track
    if (track.height, track.width) != (request.height, request.width):
        return _ANOTHER_SIZE
    if track.codec not in CODEC_IDS:
        return f"codec {track.codec}"
    return None if track.pixel_format in _PIXEL_FORMATS else f"pixel format {track.pixel_format}"


def _not_decoded(track: Track, error: Exception) -> MediaError:
    return MediaError("decode", f"torchcodec, {track.codec}: {' '.join(str(error).split())}")


def _load() -> Any:
    try:
        decoders: Any = import_module("torchcodec.decoders")
        decoders.get_nvdec_cache_capacity()  # FFmpeg's libraries are looked for at the first call
        if not hasattr(decoders, "VideoPacketDecoder"):
            raise ImportError("this torchcodec is too old")
    except (ImportError, RuntimeError, AttributeError) as error:
        raise ImportError(
            "decoders 'torchcodec' and 'nvdec' need torchcodec 0.17 or newer and FFmpeg's shared "
            "libraries: pip install 'gdt-stream[torchcodec]', and FFmpeg from your system "
            f"(Debian: apt-get install ffmpeg). What went wrong: {str(error).splitlines()[0]}"
        ) from error
    return decoders
