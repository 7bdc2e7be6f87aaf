"""What lies behind a packet's bytes is zeros, whatever lay behind them where they came from."""

import ctypes
import io
from typing import Any

import av
import numpy as np
import pytest

from shards import BuildOptions
from shards.encoding.video import VideoEncoder
from shards.media.demux import demux_tracks
from shards.media.padded_packet import padded_packet
from shards.options import CODECS

PADDING_BYTES = 64  # AV_INPUT_BUFFER_PADDING_SIZE


@pytest.mark.parametrize("size", [0, 1, 50, 4096])
def test_a_packet_has_its_own_memory_with_zeros_behind(size: int) -> None:
    around = bytearray(b"\xff" * (size + 200))
    packet: Any = padded_packet(memoryview(around)[100 : 100 + size])
    around[:] = b"\x55" * len(around)
    assert bytes(packet) == b"\xff" * size
    if size:
        assert ctypes.string_at(packet.buffer_ptr + size, PADDING_BYTES) == bytes(PADDING_BYTES)


@pytest.mark.parametrize("codec", CODECS)
def test_no_frame_depends_on_what_follows_its_packet(codec: str) -> None:
    """Each packet out of a buffer of what MPEG-4's decoder, for one, takes for more of it."""
    options = BuildOptions(codec=codec, size=(64, 48), fps=20, gop_seconds=0.5)
    encoder = VideoEncoder(options)
    rng = np.random.default_rng(0)
    for _ in range(200):
        encoder.push(
            av.VideoFrame.from_ndarray(rng.integers(0, 256, (72, 64), np.uint8), "yuv420p")
        )
    data = encoder.finish()
    container: Any
    with av.open(io.BytesIO(data)) as container:
        whole = [frame.to_ndarray() for frame in container.decode(video=0)]
    (table,) = demux_tracks(data, "mp4")
    context: Any = av.CodecContext.create(table.header.codec, "r")
    if table.header.extradata:
        context.extradata = table.header.extradata
    context.thread_count = 1
    frames = []
    for offset, size in zip(table.offset.tolist(), table.size.tolist(), strict=True):
        around = b"\x01" * 64 + data[offset : offset + size] + b"\x01" * 64
        frames += context.decode(padded_packet(memoryview(around)[64 : 64 + size]))
    frames += context.decode(None)
    assert len(frames) == len(whole)
    for frame, expected in zip(frames, whole, strict=True):
        assert not frame.is_corrupt
        np.testing.assert_array_equal(frame.to_ndarray(), expected)
