"""A small data set, made without a video: for tests of reading, verifying and hostile indexes."""

from pathlib import Path

import numpy as np

from shards.encoding.audio import encode_audio
from shards.encoding.video import VideoEncoder
from shards.format.manifest import Manifest, ShardEntry
from shards.format.writer import ShardWriter
from shards.media.demux import demux_tracks
from shards.options import BuildOptions
from tests.films import picture

OPTIONS = BuildOptions(clip_seconds=1.0, fps=10, short_side=64, gop_seconds=0.5)


def clip_members(number: int) -> dict[str, bytes]:
    """One second of picture and sound, and a json; different for every number."""
    import av

    encoder = VideoEncoder(OPTIONS)
    for n in range(OPTIONS.frames_per_clip):
        planes = picture(10 * number + n, OPTIONS.width, OPTIONS.height)
        encoder.push(av.VideoFrame.from_ndarray(planes, "yuv420p"))
    wave = np.random.default_rng(number).integers(-9000, 9000, 24000, dtype=np.int16)
    return {
        "mp4": encoder.finish(),
        "flac": encode_audio(wave[None], 24000),
        "json": f'{{"number": {number}}}'.encode(),
    }


def write_shard(path: Path, numbers: range) -> ShardEntry:
    """A shard with the clips of these numbers, keys `clip-0001` and so on."""
    with ShardWriter(path) as writer:
        for number in numbers:
            members = clip_members(number)
            tracks = [t for e in ("mp4", "flac") for t in demux_tracks(members[e], e)]
            writer.add(f"clip-{number:04d}", members, tracks)
        return writer.finish()


def write_data_set(
    folder: Path, num_shards: int = 2, samples_each: int = 3, first: int = 0
) -> Path:
    """A data set of small shards, its clips numbered from `first`; returns its folder."""
    folder.mkdir(parents=True)
    entries = []
    for shard in range(num_shards):
        start = first + shard * samples_each
        numbers = range(start, start + samples_each)
        entries.append(write_shard(folder / f"shard-{shard:06d}.tar", numbers))
    Manifest(tuple(entries), {"made_by": "a test"}).write(folder)
    return folder
