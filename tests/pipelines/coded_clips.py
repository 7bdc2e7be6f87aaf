"""Short clips in the codecs that GPU decoders are fed with, made with PyAV."""

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

#: Codec → (encoder, container, options, pixel format).
ENCODERS = {
    "h264": ("libx264", "mp4", {"preset": "veryfast", "crf": "18", "g": "10", "bf": "0"}, ""),
    "h264_b_frames": ("libx264", "mp4", {"crf": "18", "g": "12", "bf": "3", "b-pyramid": "2"}, ""),
    "hevc": ("libx265", "mp4", {"preset": "ultrafast", "x265-params": "log-level=error"}, ""),
    "vp8": ("libvpx", "webm", {"crf": "10", "b": "1M", "g": "10"}, ""),
    "vp9": ("libvpx-vp9", "mp4", {"crf": "20", "b": "0", "g": "10", "cpu-used": "8"}, ""),
    "av1": ("libsvtav1", "mp4", {"preset": "12", "crf": "30", "g": "10"}, ""),
    "mjpeg": ("mjpeg", "mp4", {"q:v": "3"}, "yuvj420p"),
}


def picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """I420 planes [H·3/2, W] of something colourful that moves, as film is: no hard edges."""
    x, y = np.meshgrid(np.arange(width) / 16, np.arange(height) / 16)
    t = number / 5
    luma = 126 + 60 * np.sin(x + t) * np.cos(y - t / 2) + 20 * np.sin(3 * x - t)
    x, y = x[::2, ::2], y[::2, ::2]
    u = 128 + 40 * np.sin(x / 2 - t)
    v = 128 + 40 * np.cos(y / 2 + t)
    chroma = np.concatenate([u.ravel(), v.ravel()]).reshape(height // 2, width)
    return np.concatenate([luma, chroma]).round().astype(np.uint8)


def coded_clip(
    codec: str, num_frames: int = 45, size: tuple[int, int] = (192, 160), rate: int = 15
) -> bytes:
    """A file of `num_frames` pictures, BT.709 and limited range (MJPEG: full).

    The usual size is one that NVDEC takes for every codec (HEVC from 144×144 on).
    """
    encoder, container_format, options, pixel_format = ENCODERS[codec]
    width, height = size
    file = io.BytesIO()
    with av.open(file, mode="w", format=container_format) as container:
        stream: Any = container.add_stream(encoder, rate=rate, options=dict(options))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format or "yuv420p"
        context = stream.codec_context
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 2 if pixel_format else 1
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, width, height), stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def planes_of(data: bytes) -> NDArray[np.uint8]:
    """All frames of a file as I420, [T, H·W·3/2], by PyAV from the container."""
    container: Any
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray().reshape(-1) for frame in container.decode(video=0)])


def psnr(a: NDArray[Any], b: NDArray[Any], peak: float) -> float:
    """Of the worst frame [T, …], in dB."""
    error = ((a.astype(np.float64) - b.astype(np.float64)) ** 2).reshape(len(a), -1).mean(axis=1)
    return float(10 * np.log10(peak**2 / max(error.max(), 1e-20)))
