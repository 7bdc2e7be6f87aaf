"""Put the packets of some frames into one small file, for decoders that take files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import MediaError, Read
from pipelines.decoding.backends.matroska import CODEC_IDS, matroska_file
from pipelines.decoding.backends.packets import read_packets, runs_of
from shards import Track

__all__ = ["Feed", "feed_of"]


@dataclass(frozen=True, eq=False)
class Feed:
    """A file and what to take out of it.

    Attributes:
        file: Matroska, see matroska.py.
        numbers: int32 [U], numbers of the frames that are wanted, in the file's presentation
            order, ascending, each once.
        places: int64 [n], where in `numbers` each of the n frames that were asked for is.
    """

    file: bytes
    numbers: NDArray[np.int32]
    places: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"Feed({len(self.file)} bytes, {len(self.numbers)} frames for {len(self.places)})"


def feed_of(read: Read, track: Track, wanted: NDArray[np.int64]) -> Feed:
    """A file of the groups of pictures that hold the `wanted` packets' frames.

    Args:
        read: gives bytes of the shard.
        track: a video track.
        wanted: packet numbers [n], any order, repeats allowed.

    Raises:
        MediaError: a checksum is wrong, no keyframe comes first, or the codec is not one that a
            file can be made of.
    """
    if track.codec not in CODEC_IDS:
        raise MediaError(
            "decode", f"codec {track.codec!r} is none of {', '.join(CODEC_IDS)}: use decoder = 'av'"
        )
    packets = track.packets
    numbers: list[int] = []
    bodies: list[bytes] = []
    for run in runs_of(packets, wanted):
        pts = packets.pts[run.first : run.stop]
        # Shown before the keyframe that a decoder starts at: it would not come out.
        fed = np.flatnonzero(pts >= pts[0])
        read_bodies = read_packets(read, track, run.first, run.stop)
        bodies += [bytes(read_bodies[i]) for i in fed.tolist()]
        numbers += (run.first + fed).tolist()
    in_file = np.array(numbers)
    rank = np.empty(len(packets), np.int64)
    rank[in_file[np.argsort(packets.pts[in_file], kind="stable")]] = np.arange(len(in_file))
    unique, places = np.unique(rank[wanted], return_inverse=True)
    file = matroska_file(
        track.codec,
        track.extradata,
        track.width,
        track.height,
        bodies,
        rank[in_file].tolist(),
        packets.keyframe[in_file].tolist(),
    )
    return Feed(file, unique.astype(np.int32), places.astype(np.int64).reshape(-1))
