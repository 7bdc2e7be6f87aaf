"""Shards as large as real ones and quick to make: their packets are noise, nothing decodes them.

Sizes are those of a film at 224×128, 30 frames a second, keyframes every half second, and FLAC of
24 kHz mono. For what reads bytes and does not look into them.
"""

import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np

from shards import Dataset, Manifest
from shards.format.tracks import KEYFRAME, CodecHeader, TrackTable
from shards.format.writer import ShardWriter

_FPS, _GOP = 30, 15
_RATE, _AUDIO_PACKET = 24_000, 2304
VIDEO = CodecHeader(
    "video", "h264", b"noise", Fraction(1, _FPS), 224, 128, "yuv420p", "bt709", "limited",
    Fraction(_FPS),
)  # fmt: skip
AUDIO = CodecHeader(
    "audio", "flac", b"noise", Fraction(1, _RATE), sample_rate_hz=_RATE, num_channels=1
)
_MP4_HEADER_BYTES, _FLAC_HEADER_BYTES = 2_500, 8_286


def write_made_up_shards(
    folder: Path,
    num_samples: int,
    samples_per_shard: int,
    seconds: float = 4.0,
    seed: int = 0,
    name: str = "shard-{:06d}.tar",
) -> Dataset:
    """A data set of noise in `folder`; the same for the same arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    entries = []
    for number, first in enumerate(range(0, num_samples, samples_per_shard)):
        with ShardWriter(folder / name.format(number)) as writer:
            for i in range(first, min(num_samples, first + samples_per_shard)):
                video, mp4 = _video(rng, seconds)
                audio, flac = _audio(rng, seconds)
                json = b'{"key": "clip-%04d", "label": "%d"}' % (i, i % 10)
                members = {"mp4": mp4, "flac": flac, "json": json}
                writer.add(f"clip-{i:04d}", members, [video, audio])
            entries.append(writer.finish())
    Manifest(tuple(entries)).write(folder)
    return Dataset.open(folder)


def _video(rng: np.random.Generator, seconds: float) -> tuple[TrackTable, bytes]:
    frames = round(seconds * _FPS)
    keyframe = np.arange(frames) % _GOP == 0
    sizes = np.where(keyframe, rng.integers(9_000, 14_000, frames), rng.integers(40, 1_100, frames))
    return _track(rng, VIDEO, "mp4", _MP4_HEADER_BYTES, sizes, 1, keyframe)


def _audio(rng: np.random.Generator, seconds: float) -> tuple[TrackTable, bytes]:
    packets = round(seconds * _RATE / _AUDIO_PACKET)
    sizes = rng.integers(2_300, 2_900, packets)
    every = np.ones(packets, bool)
    return _track(rng, AUDIO, "flac", _FLAC_HEADER_BYTES, sizes, _AUDIO_PACKET, every)


def _track(
    rng: np.random.Generator,
    header: CodecHeader,
    member: str,
    first: int,
    sizes: np.ndarray,
    ticks: int,
    keyframe: np.ndarray,
) -> tuple[TrackTable, bytes]:
    data = rng.bytes(first + int(sizes.sum()))
    offsets = first + np.cumsum(sizes) - sizes
    crcs = [zlib.crc32(data[o : o + s]) for o, s in zip(offsets, sizes, strict=True)]
    count = len(sizes)
    table = TrackTable(
        header=header,
        member=member,
        start=0,
        stop=count * ticks,
        offset=offsets.astype(np.uint64),
        size=sizes.astype(np.uint32),
        pts=np.arange(count, dtype=np.int64) * ticks,
        duration=np.full(count, ticks, np.int64),
        crc32=np.array(crcs, np.uint32),
        flags=np.where(keyframe, KEYFRAME, 0).astype(np.uint8),
    )
    return table, data
