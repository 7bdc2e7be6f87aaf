"""Find the packets that a decoder needs, and read their bytes by range, verified by checksum."""

from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import MediaError, Read
from shards import Packets, Track
from shards.format.mpegts import Transport, elementary_stream

__all__ = ["Run", "read_packets", "runs_of"]

_MERGE_BYTES = 1 << 16  # a gap smaller than this is read over rather than read around


@dataclass(frozen=True)
class Run:
    """Packets [first, stop) to feed after a seek, and those among them whose frames are wanted."""

    first: int
    stop: int
    wanted: tuple[int, ...]


def runs_of(packets: Packets, wanted: NDArray[np.int64]) -> list[Run]:
    """The fewest packets that give the `wanted` frames.

    Only their groups of pictures, and of each only what comes before its last wanted frame.

    Args:
        packets: of a video track, in file order.
        wanted: packet numbers.

    Raises:
        MediaError: no keyframe comes before a wanted frame.
    """
    pts, keyframes = packets.pts, np.flatnonzero(packets.keyframe)
    positions = sorted(set(wanted.tolist()))
    groups = np.searchsorted(keyframes, positions, side="right") - 1
    # A frame shown before its keyframe (open group of pictures) needs the group before it too.
    while (
        len(keyframes)
        and (early := (groups >= 0) & (pts[keyframes[groups]] > pts[positions])).any()
    ):
        groups = groups - early
    if not len(keyframes) or (groups < 0).any():
        position = positions[int(np.argmax(groups < 0))]
        raise MediaError("index", f"no keyframe comes before packet {position} of {len(packets)}")
    runs: list[tuple[int, list[int]]] = []  # the first packet to feed, and the wanted ones
    for first, position in zip(keyframes[groups].tolist(), positions, strict=True):
        if runs and runs[-1][0] <= first <= runs[-1][1][-1] + 1:
            runs[-1][1].append(position)
            continue
        inside = [position]
        while runs and first <= runs[-1][1][-1] + 1:  # feeding on costs nothing more than seeking
            before, earlier = runs.pop()
            first, inside = min(first, before), earlier + inside
        runs.append((first, inside))
    return [Run(first, inside[-1] + 1, tuple(inside)) for first, inside in runs]


def read_packets(read: Read, track: Track, first: int, stop: int) -> list[memoryview]:
    """The bytes of packets [first, stop), with as few reads as their places allow.

    Raises:
        MediaError: a packet's bytes are not those that were indexed.
    """
    packets = track.packets
    offsets = packets.offset[first:stop].tolist()
    sizes = packets.size[first:stop].tolist()
    if track.transport is None:
        bodies = _in_one_piece(read, offsets, sizes)
    else:
        bodies = _in_pieces(read, track, track.transport, offsets, sizes, stop)
    _verify(bodies, packets.crc32[first:stop].tolist(), first)
    return bodies


def _verify(bodies: list[memoryview], checksums: list[int], first: int) -> None:
    found = list(map(crc32, bodies))
    if found != checksums:
        number = next(i for i, checksum in enumerate(checksums) if found[i] != checksum)
        raise MediaError(
            "checksum",
            f"packet {first + number} has crc32 {found[number]:08x}, the index says "
            f"{checksums[number]:08x}",
        )


def _in_one_piece(read: Read, offsets: list[int], sizes: list[int]) -> list[memoryview]:
    bodies: list[memoryview] = []
    begin = 0
    for end in range(1, len(offsets) + 1):
        if end < len(offsets):
            gap = offsets[end] - (offsets[end - 1] + sizes[end - 1])
            if 0 <= gap <= _MERGE_BYTES:
                continue
        start = offsets[begin]
        data = memoryview(read(start, offsets[end - 1] + sizes[end - 1] - start))
        for offset, size in zip(offsets[begin:end], sizes[begin:end], strict=True):
            bodies.append(data[offset - start : offset - start + size])
        begin = end
    return bodies


def _in_pieces(
    read: Read,
    track: Track,
    transport: Transport,
    offsets: list[int],
    sizes: list[int],
    stop: int,
) -> list[memoryview]:
    """Packets out of MPEG-TS: whole transport packets are read, up to where the next one begins."""
    origin, stride = track.member_offset, transport.stride
    start = origin + (offsets[0] - origin) // stride * stride
    end = origin + track.member_size
    if stop < len(track.packets):
        next_offset = int(track.packets.offset[stop])
        if next_offset > offsets[-1]:
            end = min(end, origin + ((next_offset - origin) // stride + 1) * stride)
    stream = elementary_stream(read(start, end - start), transport)
    data, bodies = memoryview(stream.data), []
    for offset, size in zip(offsets, sizes, strict=True):
        place = stream.place_of(offset - start)
        bodies.append(data[place : place + size])
    return bodies
