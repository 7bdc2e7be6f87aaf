"""Where a second recording begins in a file, as `cat a.mp4 b.mp4` makes one.

Most formats go on where they are joined: FFmpeg reads both, and the clock is made one
(continuous_clock.py). In these it ends at the second header, looks at nothing that an index does
not name, or takes the second's packets for the first's. To find that out, only headers are read.
"""

from collections.abc import Callable
from typing import BinaryIO, Final

from shards.media.boxes import boxes

_MOST_STEPS = 1 << 20
_NEAR_BYTES = 1 << 16  # after the last packet: what ends a recording is smaller
_MXF_PACK: Final = bytes.fromhex("060e2b34020501010d0102010102")  # a header partition's
_MXF_KEY: Final = bytes.fromhex("060e2b34")
#: How a recording begins, where that is nothing that could stand within one.
_BEGINNINGS: Final = {
    "flv": b"FLV\x01",
    "asf": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
    "ogg": b"OggS\x00\x02",
}


def second_recording(file: BinaryIO, demuxer: str, last: int | None = None) -> int | None:
    """The byte at which another recording begins in the file; None where none does.

    Args:
        file: at any place, which changes.
        demuxer: FFmpeg's name of it.
        last: where the last packet ends that was read; some formats need it.
    """
    if demuxer in _WALKS:
        return _WALKS[demuxer](file)
    if demuxer not in _BEGINNINGS or last is None:
        return None
    file.seek(last)
    place = file.read(_NEAR_BYTES).find(_BEGINNINGS[demuxer])
    return None if place < 0 else last + place


def _after_boxes(file: BinaryIO) -> int | None:
    """MP4 and MOV: where the outermost boxes of a second movie begin.

    One in fragments goes on after fragments: it is read on.
    """
    seen: set[bytes] = set()
    suspect: int | None = None
    for kind, at, _, _ in boxes(file):
        is_second = {b"moov", b"mdat"} <= seen and kind in (b"ftyp", b"moov")
        if is_second and b"moof" not in seen:
            return at
        if is_second and suspect is None:
            suspect = at
        elif kind == b"moof":
            suspect = None
        elif kind == b"mdat" and suspect is not None:
            return suspect
        seen.add(kind)
    return None


def _after_footer(file: BinaryIO) -> int | None:
    """MXF: a header partition after the footer partition that the first one names."""
    file.seek(0)
    pack = file.read(96)
    width = _length_width(pack)
    footer = pack[width + 17 + 24 :][:8]
    at = int.from_bytes(footer, "big") if pack.startswith(_MXF_PACK) else 0
    for _ in range(_MOST_STEPS if 0 < at < 1 << 62 else 0):
        file.seek(at)
        head = file.read(25)
        if not head.startswith(_MXF_KEY) or len(head) < 17:
            return None
        if head.startswith(_MXF_PACK):
            return at
        width = _length_width(head)
        at += 17 + width + int.from_bytes(head[17 : 17 + width] or head[16:17], "big")
        if at >= 1 << 62:
            return None
    return None


def _length_width(pack: bytes) -> int:
    """How many bytes of an MXF length follow its first one."""
    return min(8, pack[16] & 0x7F) if len(pack) > 16 and pack[16] & 0x80 else 0


def _after_frames(file: BinaryIO) -> int | None:
    """IVF: its mark in the place of a frame's size."""
    file.seek(0)
    at = int.from_bytes(file.read(32)[6:8], "little") or 32
    while True:
        file.seek(at)
        head = file.read(12)
        if head.startswith(b"DKIF"):
            return at
        if len(head) < 12:
            return None
        at += 12 + int.from_bytes(head[:4], "little")


_WALKS: Final[dict[str, Callable[[BinaryIO], int | None]]] = {
    "mov": _after_boxes,
    "mxf": _after_footer,
    "ivf": _after_frames,
}
