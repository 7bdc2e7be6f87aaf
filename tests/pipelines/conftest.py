"""Small real data sets whose frames carry a number that can be read from the pixels.

The picture's top row is the frame's number in black and white blocks; the sound is known noise. So
a test can say which frame and which sample must come out, without asking the code under test.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from shards import Dataset, Manifest
from shards.format.writer import ShardWriter
from shards.media.demux import demux_tracks

NUM_BITS, BLOCK = 10, 16


@dataclass(frozen=True)
class Clip:
    """What to encode: one frame per entry of `times`, and the samples of `sound`."""

    times: Sequence[Fraction]
    sound: NDArray[np.int16] | None
    sample_rate_hz: int = 24_000
    size: tuple[int, int] = (NUM_BITS * BLOCK, 48)
    stop: Fraction | None = None  # of the last frame; one usual interval after it by default
    codec_options: Mapping[str, str] = field(
        default_factory=lambda: {"bf": "0", "g": "15", "sc_threshold": "0"}
    )

    @property
    def end(self) -> Fraction:
        return self.stop or self.times[-1] + (self.times[-1] - self.times[-2])


def constant_rate(rate: Fraction | int, seconds: float, first: int = 0) -> list[Fraction]:
    return [Fraction(i) / rate for i in range(first, first + round(seconds * rate))]


def noise(seconds: float, sample_rate_hz: int = 24_000, seed: int = 0) -> NDArray[np.int16]:
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.normal(size=round(seconds * sample_rate_hz)), np.ones(8) / 8, "same")
    return np.round(smooth * 8000).clip(-32768, 32767).astype(np.int16)


def numbered_picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """I420 planes, [H·3/2, W]: the number's bits, and below them something that moves."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    luma = 128 + 60 * np.sin((x + 3 * number) / 7) * np.cos((y - 2 * number) / 5)
    for bit in range(NUM_BITS):
        luma[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 235 if number >> bit & 1 else 16
    chroma = np.full((height // 2, width), 128 + 40 * np.sin(number / 3))
    return np.concatenate([luma, chroma]).astype(np.uint8)


def numbers_of(frames: NDArray[np.uint8], width: int) -> list[int]:
    """The numbers in frames [T, H·W·3/2]."""
    top = frames[:, : BLOCK * width].reshape(len(frames), BLOCK, width)
    inner = top[:, 4:12, : NUM_BITS * BLOCK].reshape(len(frames), 8, NUM_BITS, BLOCK)[..., 4:12]
    bits = inner.mean(axis=(1, 3)) > 128
    return [int(sum(1 << b for b in range(NUM_BITS) if row[b])) for row in bits]


def encode_mp4(clip: Clip) -> bytes:
    """H.264 in mp4 with exactly the clip's presentation times."""
    file = io.BytesIO()
    width, height = clip.size
    tick = Fraction(1, 90_000)
    with av.open(file, mode="w", format="mp4") as container:
        stream: Any = container.add_stream("libx264", rate=30, options=dict(clip.codec_options))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = tick
        stream.codec_context.thread_count = 1
        ticks = [round(time / tick) for time in (*clip.times, clip.end)]
        durations = {a: b - a for a, b in pairwise(ticks)}

        def mux(packets: list[Any]) -> None:
            for packet in packets:  # the encoder forgets how long the last frame lasts
                packet.duration = durations[packet.pts]
                container.mux(packet)

        for number, pts in enumerate(ticks[:-1]):
            picture = numbered_picture(number, width, height)
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            frame.pts, frame.time_base = pts, tick
            mux(stream.encode(frame))
        mux(stream.encode(None))
    return file.getvalue()


def encode_flac(sound: NDArray[np.int16], sample_rate_hz: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, mode="w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=sample_rate_hz, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(sound[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = sample_rate_hz, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def members_of(clip: Clip) -> dict[str, bytes]:
    members = {"mp4": encode_mp4(clip)}
    if clip.sound is not None:
        members["flac"] = encode_flac(clip.sound, clip.sample_rate_hz)
    return members


def write_shards(
    folder: Path, samples: Sequence[Mapping[str, bytes]], samples_per_shard: int = 8
) -> Dataset:
    """A data set of these members, under the keys clip-0000, clip-0001, …"""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, first in enumerate(range(0, len(samples), samples_per_shard)):
        with ShardWriter(folder / f"shard-{number:06d}.tar") as writer:
            for i, members in enumerate(samples[first : first + samples_per_shard], start=first):
                tracks = [
                    track
                    for name, data in members.items()
                    if name not in ("json", "txt")
                    for track in demux_tracks(data, name)
                ]
                writer.add(f"clip-{i:04d}", members, tracks)
            entries.append(writer.finish())
    Manifest(tuple(entries)).write(folder)
    return Dataset.open(folder)


class Corpus:
    """The makers above, for tests to use."""

    clip = Clip
    constant_rate = staticmethod(constant_rate)
    noise = staticmethod(noise)
    members = staticmethod(members_of)
    write = staticmethod(write_shards)
    numbers = staticmethod(numbers_of)


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    return Corpus()


@pytest.fixture(scope="session")
def small_members() -> list[dict[str, bytes]]:
    """30 clips of 1.2 s at 10 frames a second, each with its own noise."""
    options = {"g": "5", "bf": "0"}
    return [
        members_of(Clip(constant_rate(10, 1.2), noise(1.2, seed=i), codec_options=options))
        for i in range(30)
    ]


@pytest.fixture(scope="session")
def small_dataset(
    small_members: list[dict[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> Dataset:
    """The first 26 of them, in four shards; not to be changed."""
    return write_shards(tmp_path_factory.mktemp("small"), small_members[:26])
