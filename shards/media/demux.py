"""Make the packet tables of one member: where packets lie, when they are shown, codec headers.

A member's bytes are demuxed once, here, so that no container is parsed at training time.
"""

import io
import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from shards.errors import ShardError
from shards.format.index_file import overlap
from shards.format.mpegts import Transport, elementary_stream
from shards.format.tracks import DISCARD, KEYFRAME, CodecHeader, TrackTable
from shards.media.channel_order import settle_order
from shards.media.claimed_samples import check_claimed_samples
from shards.media.color import matrix_name
from shards.media.container import describe, open_container
from shards.media.packet_durations import counted_out, is_coarse, samples_of
from shards.media.streams import demux, is_cover, preferred

_FLAC_STREAMINFO_BYTES = 34
_BLOCK_BYTES = 1 << 20  # a packet begins within this many bytes of where its block is said to


def demux_tracks(data: bytes, member: str) -> list[TrackTable]:
    """Index the media in a member's bytes: at most one video and one audio track.

    Raises:
        SourceError: the bytes are not media that can be opened.
        ShardError: a packet's bytes do not lie in the member, or it has no time.
    """
    check_claimed_samples(io.BytesIO(data))
    with open_container(io.BytesIO(data)) as container:
        known = [s for s in container.streams if s.codec_context is not None]
        videos = [s for s in known if s.type == "video" and not is_cover(s)]
        audios = [s for s in known if s.type == "audio"]
        streams = [preferred(of_a_kind) for of_a_kind in (videos, audios) if of_a_kind]
        if not streams:  # PyAV would take none for all
            return []
        for stream in streams:
            if stream.type == "audio":
                settle_order(stream.codec_context)
        packets: dict[int, list[Any]] = {s.index: [] for s in streams}
        try:
            for packet in demux(container, *streams):
                if packet.size:
                    packets[packet.stream.index].append(packet)
        except av.FFmpegError as error:
            raise ShardError(f"Member {member}: demuxing stopped: {describe(error)}.") from error
        return [
            _table(container, s, packets[s.index], data, member)
            for s in streams
            if packets[s.index]
        ]


def _table(container: Any, stream: Any, packets: list[Any], data: bytes, member: str) -> TrackTable:
    bodies = [bytes(packet) for packet in packets]
    if container.format.name == "mpegts":
        transport = Transport.of(data, stream.id)
        offsets = _offsets_in_pieces(bodies, data, transport)
    else:
        transport = None
        offsets = _offsets_in_one_piece(bodies, [packet.pos for packet in packets], data)
    if None in offsets:
        raise ShardError(
            f"Member {member}: packet {offsets.index(None)} of its {stream.type} does not lie in "
            "the file as it is decoded, so it cannot be indexed; re-encode it with `gdt shards "
            "build`."
        )
    places = np.array(offsets, np.uint64)
    sizes = np.array([len(body) for body in bodies], np.uint32)
    if transport is None and overlap(places, sizes, np.zeros(len(packets), np.int64)):
        raise ShardError(f"Member {member}: packets of its {stream.type} overlap.")
    for number, packet in enumerate(packets):
        if packet.pts is None:
            raise ShardError(f"Member {member}: packet {number} of its {stream.type} has no time.")
    header = _header(stream, transport)
    pts = np.array([packet.pts for packet in packets], np.int64)
    duration = np.array([packet.duration or 0 for packet in packets], np.int64)
    discard = np.array([packet.is_discard for packet in packets], bool)
    keyframe = np.array([packet.is_keyframe for packet in packets], bool)
    priming, padding = _trimmed(packets[0])[0], _trimmed(packets[-1])[1]
    if container.format.name == "ogg":
        padding = 0  # its demuxer has taken it off the last duration already
    if header.kind == "audio" and is_coarse(header.time_base, header.sample_rate_hz):
        rate, channels = header.sample_rate_hz, header.num_channels
        counts = samples_of(header.codec, header.extradata, rate, channels, bodies)
        if counts is not None:
            pts = counted_out(pts, header.time_base, counts, header.sample_rate_hz)
            duration = counts
            header = replace(header, time_base=Fraction(1, header.sample_rate_hz))
    shown = np.ones_like(discard) if discard.all() else ~discard
    start, stop = int(pts[shown].min()), int((pts + duration)[shown].max())
    if header.kind == "audio":
        per_sample = 1 / (header.time_base * header.sample_rate_hz)
        start = int(pts[0]) + round(priming * per_sample) if priming else start
        stop -= round(padding * per_sample)
    return TrackTable(
        header=header,
        member=member,
        start=start,
        stop=max(start, stop),
        offset=places,
        size=sizes,
        pts=pts,
        duration=duration,
        crc32=np.array([zlib.crc32(body) for body in bodies], np.uint32),
        flags=(KEYFRAME * keyframe | DISCARD * discard).astype(np.uint8),
    )


def _offsets_in_one_piece(
    bodies: list[bytes], positions: list[int | None], data: bytes
) -> list[int | None]:
    """Where each packet's bytes lie; None where they do not.

    Demuxers say where a packet or the block around it begins; several may share a block.
    """
    offsets: list[int | None] = []
    free = 0  # of the current block, what earlier packets left
    block: int | None = None
    for body, position in zip(bodies, positions, strict=True):
        if position is None:
            offsets.append(None)
            continue
        if position != block:
            block, free = position, position
        found = data.find(body, free, free + len(body) + _BLOCK_BYTES)
        offsets.append(found if found >= 0 else None)
        free = found + len(body) if found >= 0 else free
    return offsets


def _offsets_in_pieces(bodies: list[bytes], data: bytes, transport: Transport) -> list[int | None]:
    """Where each packet's first byte lies; None where the stream does not go on with its bytes."""
    stream = elementary_stream(data, transport)
    offsets: list[int | None] = []
    place = 0
    for body in bodies:
        found = stream.data.find(body, place)
        offsets.append(stream.offset_of(found) if found >= 0 else None)
        place = found + len(body) if found >= 0 else place
    return offsets


def _trimmed(packet: Any) -> tuple[int, int]:
    """Samples that a player leaves out at a packet's start and at its end."""
    if not packet.has_sidedata("skip_samples"):
        return 0, 0
    return struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))


def _header(stream: Any, transport: Transport | None) -> CodecHeader:
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
            transport=transport,
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
        transport=transport,
    )


def _shared_streaminfo(info: bytes) -> bytes:
    """STREAMINFO without frame sizes, length and MD5, all of which the format lets be unknown (0).

    What is left is equal for clips of one kind, so a decoder can serve them all (RFC 9639 §8.2).
    """
    return info[:4] + bytes(6) + info[10:13] + bytes([info[13] & 0xF0]) + bytes(20)
