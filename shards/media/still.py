"""A still image as a track of one packet: its header read, its whole file the packet.

JPEG, PNG and WebP, known by their first bytes. Only headers are read here, so that an image too
large to decode is refused before a pixel of it is made. A still has no time: it covers any second.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from shards.errors import SourceError
from shards.format.tracks import KEYFRAME, CodecHeader, TrackTable
from shards.media.color import BT709
from shards.media.limits import MAX_PIXELS, MAX_SIDE
from shards.media.orientation import TURNS, Turn

__all__ = ["StillHeader", "sniff_still", "still_header", "still_track"]

_PNG = b"\x89PNG\r\n\x1a\n"
_ORIENTATION_TAG, _MAX_TAGS = 0x0112, 1000
_MAX_UNPACKED = 16 << 20  # of a colour profile or text in a PNG; real profiles have up to 4 MiB
_MAX_NAMES_BYTES = 300  # before it: a keyword of up to 79 bytes, a language, a translated keyword
_CUT_SHORT = "the image is cut short"


@dataclass(frozen=True)
class StillHeader:
    """What a still's header says: size in pixels as coded, and how it is turned upright."""

    codec: str
    width: int
    height: int
    turn: Turn

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) of the image as it is seen."""
        sideways = self.turn[0] == 0
        return (self.height, self.width) if sideways else (self.width, self.height)


def sniff_still(head: bytes) -> str | None:
    """FFmpeg's name of the codec of a file that begins with `head`; None where it is no still."""
    if head.startswith(b"\xff\xd8\xff"):
        return "mjpeg"
    if head.startswith(_PNG):
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    return None


def still_header(data: bytes | memoryview) -> StillHeader:
    """The header of a whole file.

    Raises:
        SourceError: no still of these kinds, cut short, animated, or too large.
    """
    data = memoryview(data)
    if not data:
        raise SourceError("open", "an empty file", "0 bytes")
    codec = sniff_still(bytes(data[:16]))
    if codec is None:
        raise SourceError("open", "not a JPEG, PNG or WebP", f"begins with {bytes(data[:16])!r}")
    try:
        width, height, exif = {"mjpeg": _jpeg, "png": _png, "webp": _webp}[codec](data)
    except (struct.error, IndexError) as error:
        raise SourceError("open", _CUT_SHORT, f"{len(data)} bytes") from error
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE or not width * height:
        raise SourceError(
            "probe", "the image is too large, or has no size", f"{width}×{height} pixels"
        )
    return StillHeader(codec, width, height, TURNS[_orientation(exif)])


def still_track(data: bytes, member: str) -> TrackTable:
    """The file as a track. Decoders fit stills to the coded form of videos (frame_fitting.py).

    Raises:
        SourceError: see `still_header`.
    """
    found = still_header(data)
    width, height = found.upright_size
    header = CodecHeader(
        kind="video",
        codec=found.codec,
        extradata=b"",
        time_base=Fraction(1),
        width=width,
        height=height,
        color_matrix=BT709.matrix,
        color_range=BT709.range,
    )
    return TrackTable(
        header=header,
        member=member,
        start=0,
        stop=1,
        offset=np.array([0], np.uint64),
        size=np.array([len(data)], np.uint32),
        pts=np.array([0], np.int64),
        duration=np.array([1], np.int64),
        crc32=np.array([zlib.crc32(data)], np.uint32),
        flags=np.array([KEYFRAME], np.uint8),
    )


def _jpeg(data: memoryview) -> tuple[int, int, bytes]:
    """ITU-T T.81, annex B: markers with lengths up to the first scan, which an end mark ends."""
    size, exif, place = (0, 0), b"", 2
    while True:
        while data[place] == 0xFF:  # markers may be padded
            place += 1
        marker = data[place]
        place += 1
        (length,) = struct.unpack_from(">H", data, place)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, place + 3)
            size = width, height
        elif marker == 0xE1 and bytes(data[place + 2 : place + 8]) == b"Exif\0\0":
            exif = exif or bytes(data[place + 8 : place + length])
        elif marker == 0xDA:
            if bytes(data[place:]).find(b"\xff\xd9") < 0:  # a scan holds no such bytes
                raise SourceError("open", _CUT_SHORT, f"no end mark in {len(data)} bytes")
            return *size, exif
        elif marker in (0x00, 0xD9) or length < 2:
            raise SourceError("open", "damaged", f"marker {marker:02x} at byte {place}")
        place += length


def _png(data: memoryview) -> tuple[int, int, bytes]:
    """ISO/IEC 15948: chunks of length, name, content and checksum, from IHDR to IEND."""
    width, height = struct.unpack_from(">II", data, 16)
    exif = b""
    for name, start, length in _chunks(data, 8, ">", trailer=4):
        if name == b"eXIf":
            exif = bytes(data[start : start + length])
        elif name in (b"iCCP", b"zTXt", b"iTXt"):
            _check_packed(data[start : start + length])
        elif name == b"IEND":
            return width, height, exif
    raise SourceError("open", _CUT_SHORT, f"no IEND in {len(data)} bytes")


def _check_packed(chunk: memoryview) -> None:
    """Refuse a profile or text that unpacks to very much: decoders unpack it whole.

    It lies somewhere in the chunk, after names that end with a zero: every such place is tried.
    """
    content = bytes(chunk)
    place = content.find(0)
    while 0 <= place < _MAX_NAMES_BYTES:
        for start in (place + 1, place + 2):
            unpacker = zlib.decompressobj()
            with suppress(zlib.error):
                if len(unpacker.decompress(content[start:], _MAX_UNPACKED)) == _MAX_UNPACKED:
                    detail = f"more than {_MAX_UNPACKED} bytes of {len(content)}"
                    raise SourceError("open", "a packed profile or text that is a bomb", detail)
        place = content.find(0, place + 1)


def _webp(data: memoryview) -> tuple[int, int, bytes]:
    """RFC 9649: a RIFF file of one image, which VP8X may describe beforehand."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise SourceError("open", _CUT_SHORT, f"{len(data)} of {length + 8} bytes")
    width = height = 0
    exif = b""
    for name, start, length in _chunks(data, 12, "<", trailer=0):
        if name in (b"ANIM", b"ANMF"):
            raise SourceError("open", "an animated image", "WebP")
        if name == b"VP8 " and not width:
            width, height = (n & 0x3FFF for n in struct.unpack_from("<HH", data, start + 6))
        elif name == b"VP8L" and not width:
            (packed,) = struct.unpack_from("<I", data, start + 1)
            width, height = (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
        elif name == b"EXIF":
            exif = bytes(data[start : start + length]).removeprefix(b"Exif\0\0")
    return width, height, exif


def _chunks(
    data: memoryview, place: int, order: str, trailer: int
) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and length of each chunk: of PNG (">"), or of RIFF, padded to even ("<")."""
    while place + 8 <= len(data):
        if order == ">":
            length, name = struct.unpack_from(">I4s", data, place)
        else:
            name, length = struct.unpack_from("<4sI", data, place)
        yield name, place + 8, length
        place += 8 + length + trailer + (length % 2 if order == "<" else 0)


def _orientation(exif: bytes) -> int:
    """EXIF's tag 274, 1 to 8; 1 (upright) where there is none that can be read."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (place,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, place)
        for number in range(min(count, _MAX_TAGS)):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", exif, place + 2 + 12 * number)
            if tag == _ORIENTATION_TAG:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
