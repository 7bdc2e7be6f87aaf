"""Refuse an MP4 or MOV that claims samples which its bytes cannot be: a table that is a bomb.

A table may say "60 million samples of one byte" in 12 bytes, for each of which FFmpeg makes an
entry of its own: gigabytes for a file of kilobytes. What is cut short may claim several times what
is left of it.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from shards.errors import SourceError
from shards.media.boxes import Box, boxes, looks_like_boxes

FREE_SAMPLES = 4_000_000  # take a hundred megabytes; 44 hours at 25 a second
MOST_BYTES_CLAIMED = 16  # times the file's
_INSIDE = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
_ROW_FLAGS = 0xF00  # of a run: which of duration, size, flags and offset each of its samples has


def check_claimed_samples(file: BinaryIO) -> None:
    """Refuse a file whose tables claim more; its place changes. Others than MP4 and MOV pass.

    Raises:
        SourceError: it does.
    """
    total, samples, claimed = file.seek(0, 2), 0, 0
    file.seek(0)
    if not looks_like_boxes(file.read(8)):
        return
    for count, size in _claims(file, total):
        samples += count
        claimed += count * size
        if samples > FREE_SAMPLES and claimed > MOST_BYTES_CLAIMED * total:
            detail = f"{samples} samples in {total} bytes"
            raise SourceError("open", "its tables claim more than it holds", detail)


def _claims(file: BinaryIO, total: int) -> Iterator[tuple[int, int]]:
    """How many samples each table claims, and of how many bytes, where no row stands for each."""
    for box in _tables(file, 0, total):
        file.seek(box.start)
        head = file.read(12)
        if len(head) < 12:
            continue
        first, second, third = struct.unpack(">III", head)
        if box.kind == b"trun":
            count, bits, size = second, 32 * (first & _ROW_FLAGS).bit_count(), 1
        elif box.kind == b"stsz":
            count, bits, size = third, 0 if second else 32, second or 1
        else:
            count, bits, size = third, second & 0xFF, 1
        has_rows = bits and count * bits <= 8 * (box.stop - box.start)
        yield count, 0 if has_rows else size


def _tables(file: BinaryIO, start: int, stop: int, depth: int = 0) -> Iterator[Box]:
    for box in boxes(file, start, stop):
        if box.kind in _INSIDE and depth < len(_INSIDE):
            yield from _tables(file, box.start, box.stop, depth + 1)
        elif box.kind in (b"stsz", b"stz2", b"trun"):
            yield box
