"""Write a few indexed packets as a Matroska file in memory: the input of GPU decoders.

DALI and torchcodec take files, not packets. A file of our own making holds the groups of pictures
of one segment and nothing else: fewer bytes to read, check and scan than the whole clip, frame
numbers that are ours whatever the source's container said, and no foreign container ever reaches
the decoder's parser. Some 20 µs for 30 packets.

Layout: RFC 9559 (Matroska), RFC 8794 (EBML). Block times count frames in presentation order.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

__all__ = ["CODEC_IDS", "TICK_SECONDS", "matroska_file"]

#: FFmpeg's codec name → (Matroska codec id, whether the codec header goes into the file). VP8, VP9
#: and MJPEG carry all they need in their packets (and an mp4's VP9 header is of another kind).
CODEC_IDS: Final = {
    "av1": ("V_AV1", True),
    "h264": ("V_MPEG4/ISO/AVC", True),
    "libdav1d": ("V_AV1", True),  # what PyAV decodes AV1 with
    "hevc": ("V_MPEGH/ISO/HEVC", True),
    "mjpeg": ("V_MJPEG", False),
    "mpeg4": ("V_MPEG4/ISO/ASP", True),
    "vp8": ("V_VP8", False),
    "vp9": ("V_VP9", False),
}
#: Block times are 16 bits with a sign.
MAX_FRAMES: Final = 1 << 15
#: Nanoseconds a tick. Only the order of times means anything; a frame is a tick.
_TICK_NS: Final = 33_333_333
TICK_SECONDS: Final = _TICK_NS / 1e9


def matroska_file(
    codec: str,
    extradata: bytes,
    width: int,
    height: int,
    packets: Sequence[bytes],
    places: Sequence[int],
    keyframes: Sequence[bool],
) -> bytes:
    """One video track of `packets`, in decode order.

    Args:
        codec: of `CODEC_IDS`.
        extradata: the codec header, as in the shard index.
        width: coded, in pixels.
        height: coded, in pixels.
        packets: the bytes of each.
        places: of each packet's frame in presentation order: 0 for the first one shown.
        keyframes: which packets are keyframes; the first has to be one.

    Returns:
        The file.

    Raises:
        ValueError: a codec that is not known here, no keyframe first, or too many packets.
    """
    if not packets or not keyframes[0]:
        raise ValueError(f"{len(packets)} packets that do not start with a keyframe make no file")
    if len(packets) > MAX_FRAMES:
        raise ValueError(f"{len(packets)} packets, at most {MAX_FRAMES} fit into one cluster")
    blocks = [_element(b"\xe7", b"\x00")]  # the cluster's time
    for packet, place, keyframe in zip(packets, places, keyframes, strict=True):
        flags = b"\x80" if keyframe else b"\x00"
        head = b"\x81" + place.to_bytes(2, "big") + flags  # of track 1
        blocks += [b"\xa3", _size(len(head) + len(packet)), head, packet]
    cluster = _element(b"\x1f\x43\xb6\x75", b"".join(blocks))
    head, track = _head(codec, extradata, width, height)
    about = _about(len(packets)) + track
    return b"".join((head, b"\x18\x53\x80\x67", _size(len(about) + len(cluster)), about, cluster))


def _about(num_frames: int) -> bytes:
    """The segment's information: what a tick is, and the duration, which decord must be told."""
    duration = _element(b"\x44\x89", struct.pack(">d", num_frames))
    return _element(b"\x15\x49\xa9\x66", _number(b"\x2a\xd7\xb1", _TICK_NS) + duration)


@lru_cache(maxsize=64)
def _head(codec: str, extradata: bytes, width: int, height: int) -> tuple[bytes, bytes]:
    """The EBML header, and the segment's track."""
    if codec not in CODEC_IDS:
        raise ValueError(f"codec {codec!r} has no Matroska name here: {', '.join(CODEC_IDS)} do")
    codec_id, has_header = CODEC_IDS[codec]
    ebml = _element(
        b"\x1a\x45\xdf\xa3",
        _number(b"\x42\x86", 1)  # version, and the version needed to read
        + _number(b"\x42\xf7", 1)
        + _number(b"\x42\xf2", 4)  # longest id and size
        + _number(b"\x42\xf3", 8)
        + _element(b"\x42\x82", b"matroska")
        + _number(b"\x42\x87", 4)
        + _number(b"\x42\x85", 2),
    )
    track = (
        _number(b"\xd7", 1)  # number
        + _number(b"\x73\xc5", 1)  # unique id
        + _number(b"\x83", 1)  # video
        + _number(b"\x9c", 0)  # blocks hold one frame each
        + _element(b"\x86", codec_id.encode())
        + _number(b"\x23\xe3\x83", _TICK_NS)  # default duration
        + _element(b"\xe0", _number(b"\xb0", width) + _number(b"\xba", height))
    )
    if has_header and extradata:
        track += _element(b"\x63\xa2", extradata)
    return ebml, _element(b"\x16\x54\xae\x6b", _element(b"\xae", track))


def _size(num_bytes: int) -> bytes:
    """EBML's variable-length size, always eight bytes long."""
    return (num_bytes | 1 << 56).to_bytes(8, "big")


def _element(name: bytes, content: bytes) -> bytes:
    return name + _size(len(content)) + content


def _number(name: bytes, value: int) -> bytes:
    return _element(name, value.to_bytes(8, "big"))
