"""The packet tables of one member: where every packet lies, when it is shown, how a decoder starts.

A member's bytes are demuxed once, here, so that no container is parsed at training time.
"""

import io
import zlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from shards.errors import ShardError
from shards.media import describe, open_container
from shards.picture import matrix_name

KEYFRAME, DISCARD = 1, 2  # bits of a packet's flags
_FLAC_STREAMINFO_BYTES = 34


@dataclass(frozen=True)
class CodecHeader:
    """What a decoder needs before the first packet; the same for many clips of a data set.

    extradata: the codec's own header (avcC for H.264 in mp4, STREAMINFO for FLAC). Fields of the
    other kind are None or 0.
    """

    kind: str
    codec: str
    extradata: bytes
    time_base: Fraction
    width: int = 0
    height: int = 0
    pixel_format: str | None = None
    color_matrix: str | None = None
    color_range: str | None = None
    frame_rate: Fraction | None = None
    sample_rate_hz: int = 0
    num_channels: int = 0


@dataclass(frozen=True, eq=False)
class TrackTable:
    """One track of one member: its header and its packets [P] in file order.

    offset counts from the member's first byte; pts and duration are ticks of header.time_base;
    start and stop are the presentation range in ticks.
    """

    header: CodecHeader
    member: str
    start: int
    stop: int
    offset: npt.NDArray[np.uint64]
    size: npt.NDArray[np.uint32]
    pts: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]
    crc32: npt.NDArray[np.uint32]
    flags: npt.NDArray[np.uint8]


def demux_tracks(data: bytes, member: str) -> list[TrackTable]:
    """Index the media in a member's bytes: at most one video and one audio track.

    Raises:
        SourceError: the bytes are not media that can be opened.
        ShardError: a packet's bytes do not lie in the member as one piece.
    """
    with open_container(io.BytesIO(data)) as container:
        streams: list[Any] = [*container.streams.video[:1], *container.streams.audio[:1]]
        packets: dict[int, list[Any]] = {s.index: [] for s in streams}
        try:
            for packet in container.demux(streams):
                if packet.size:
                    packets[packet.stream.index].append(packet)
        except av.FFmpegError as error:
            raise ShardError(f"Member {member}: demuxing stopped: {describe(error)}.") from error
        return [_table(s, packets[s.index], data, member) for s in streams if packets[s.index]]


def _table(stream: Any, packets: list[Any], data: bytes, member: str) -> TrackTable:
    rows = []
    for number, packet in enumerate(packets):
        position, size = packet.pos, packet.size
        body = bytes(packet)
        if position is None or data[position : position + size] != body:
            raise ShardError(
                f"Member {member}: packet {number} of its {stream.type} does not lie in the file "
                "as one piece, so it cannot be indexed; re-encode it with `gdt shards build`."
            )
        if packet.pts is None:
            raise ShardError(f"Member {member}: packet {number} of its {stream.type} has no time.")
        flags = KEYFRAME * packet.is_keyframe | DISCARD * packet.is_discard
        rows.append((position, size, packet.pts, packet.duration or 0, zlib.crc32(body), flags))
    columns = list(zip(*rows, strict=True))
    pts, duration = np.array(columns[2], np.int64), np.array(columns[3], np.int64)
    return TrackTable(
        header=_header(stream),
        member=member,
        start=int(pts.min()),
        stop=int((pts + duration).max()),
        offset=np.array(columns[0], np.uint64),
        size=np.array(columns[1], np.uint32),
        pts=pts,
        duration=duration,
        crc32=np.array(columns[4], np.uint32),
        flags=np.array(columns[5], np.uint8),
    )


def _header(stream: Any) -> CodecHeader:
    codec = stream.codec_context
    extradata = bytes(codec.extradata or b"")
    time_base = Fraction(stream.time_base)
    if stream.type == "video":
        full = codec.color_range == 2 or (codec.pix_fmt or "").startswith("yuvj")
        return CodecHeader(
            kind="video",
            codec=codec.name,
            extradata=extradata,
            time_base=time_base,
            width=codec.width,
            height=codec.height,
            pixel_format=codec.pix_fmt,
            color_matrix=matrix_name(codec.colorspace, codec.height),
            color_range="full" if full else "limited",
            frame_rate=Fraction(stream.average_rate or stream.base_rate or 0) or None,
        )
    if codec.name == "flac" and len(extradata) == _FLAC_STREAMINFO_BYTES:
        extradata = _shared_streaminfo(extradata)
    return CodecHeader(
        kind="audio",
        codec=codec.name,
        extradata=extradata,
        time_base=time_base,
        sample_rate_hz=codec.sample_rate,
        num_channels=codec.layout.nb_channels,
    )


def _shared_streaminfo(info: bytes) -> bytes:
    """STREAMINFO without frame sizes, length and MD5, all of which the format lets be unknown (0).

    What is left is equal for clips of one kind, so a decoder can serve them all (RFC 9639 §8.2).
    """
    return info[:4] + bytes(6) + info[10:13] + bytes([info[13] & 0xF0]) + bytes(20)
