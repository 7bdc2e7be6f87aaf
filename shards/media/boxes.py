"""The boxes of MP4 and MOV: what they are called and where they lie. Only headers are read."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_MOST_STEPS = 1 << 20
_FIRST = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"styp")


class Box(NamedTuple):
    """A box: its name, its first byte, and from where to where its content lies."""

    kind: bytes
    at: int
    start: int
    stop: int


def looks_like_boxes(head: bytes) -> bool:
    """Whether a file that begins so is an MP4 or MOV."""
    return head[4:8] in _FIRST


def boxes(file: BinaryIO, start: int = 0, stop: int | None = None) -> Iterator[Box]:
    """The boxes beside each other in a stretch of a file, in order; all of it by default.

    The last may reach beyond the end, and ends there. Its place in the file changes.
    """
    end = file.seek(0, 2) if stop is None else stop
    for _ in range(_MOST_STEPS):
        if start + 8 > end:
            return
        file.seek(start)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head[:8])
        content = start + 8
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
            content += 8
        size = size or end - start
        yield Box(kind, start, min(content, end), min(start + size, end))
        if size < 8:
            return
        start += size
