"""Shards of moving texture: real H.264 or VP9 and FLAC of the usual sizes, made in seconds.

For what decodes. The texture is smooth noise that drifts and turns, with some new detail in every
frame, so that a frame costs about the bytes of film at the same quality.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from shards import BuildOptions, Dataset, Manifest
from shards.encoding.audio import encode_audio
from shards.encoding.video import VideoEncoder
from shards.format.writer import ShardWriter
from shards.media.demux import demux_tracks

__all__ = ["write_textured_shards"]


def write_textured_shards(
    folder: Path, num_clips: int, short_side: int, codec: str = "h264", seconds: float = 4.0
) -> Dataset:
    """A data set of one shard; the same pictures for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    options = BuildOptions(short_side=short_side, codec=codec, clip_seconds=seconds)
    rng = np.random.default_rng(short_side)
    num_samples = round(seconds * options.sample_rate_hz)
    with ShardWriter(folder / "shard-000000.tar") as writer:
        for clip in range(num_clips):
            encoder = VideoEncoder(options)
            for planes in _pictures(rng, options.frames_per_clip, options.width, options.height):
                encoder.push(av.VideoFrame.from_ndarray(planes, "yuv420p"))
            noise = (rng.normal(size=num_samples) * 1000).astype(np.int16)
            members = {
                "mp4": encoder.finish(),
                "flac": encode_audio(noise[None], options.sample_rate_hz),
            }
            tracks = [t for name, data in members.items() for t in demux_tracks(data, name)]
            writer.add(f"clip-{clip:05d}", members, tracks)
        entry = writer.finish()
    Manifest((entry,)).write(folder)
    return Dataset.open(folder)


def _pictures(
    rng: np.random.Generator, count: int, width: int, height: int
) -> Iterator[NDArray[np.uint8]]:
    """I420 planes [H·3/2, W]: a window that drifts over a large texture, and a little noise."""
    texture = _texture(rng, 2 * height, 2 * width)
    chroma = _texture(rng, 2 * height, 2 * width)
    speed = rng.uniform(-2, 2, 2)
    for number in range(count):
        top, left = (int(x * number) % size for x, size in zip(speed, (height, width), strict=True))
        luma = texture[top : top + height, left : left + width]
        luma = luma + rng.normal(scale=1.5, size=luma.shape)
        half = chroma[top : top + height, left : left + width][::2, ::2]
        color = np.concatenate([half.ravel(), 255 - half.ravel()]).reshape(height // 2, width)
        yield np.concatenate([luma, color]).clip(16, 235).astype(np.uint8)


def _texture(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float64]:
    """Noise whose power falls with the square of the frequency, as in photographs."""
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    smooth = np.fft.irfft2(spectrum / (0.01 + np.hypot(y, x)), s=(height, width))
    return np.asarray(126 + 40 * smooth / smooth.std())
