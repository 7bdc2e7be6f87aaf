"""Packets with padding behind them, because decoders read a little beyond what they are given.

PyAV wraps the bytes it gets as they lie. FFmpeg's decoders may look at 64 bytes after a packet and
expect zeros there (AV_INPUT_BUFFER_PADDING_SIZE): with whatever follows in a shard instead, MPEG-4
damages frames, and after the last bytes of a buffer lies memory that is not ours.
"""

from typing import Any

import av

__all__ = ["padded_packet"]


def padded_packet(body: bytes | memoryview) -> Any:
    """A packet that holds a copy of `body`, with zeros behind it."""
    packet: Any = av.Packet(len(body))
    memoryview(packet)[:] = body
    return packet
