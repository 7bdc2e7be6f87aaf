"""MPEG-TS: one elementary stream out of the small packets that carry it in pieces.

A transport packet is 188 bytes (192 in M2TS, four of them before it) and carries at most 184 of one
stream, known by its PID. A frame therefore lies in many pieces between those of other streams. What
is indexed is where a frame's first byte lies; its bytes are the `size` that follow in its stream.

Layout: ISO/IEC 13818-1 §2.4.3 (transport packets, PES packets).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SYNC, _PACKET_BYTES = 0x47, 188


@dataclass(frozen=True)
class Transport:
    """How a track's bytes are carried.

    Attributes:
        pid: of the track's stream.
        stride: bytes from one transport packet to the next, 188 or 192.
    """

    pid: int
    stride: int

    def __post_init__(self) -> None:
        if not (0 <= self.pid < 1 << 13 and self.stride in (188, 192)):
            raise ValueError(f"Transport: pid {self.pid} below 8192 and stride 188 or 192 needed")

    @classmethod
    def of(cls, data: bytes, pid: int) -> "Transport":
        """How a file carries its stream `pid`."""
        return cls(pid, 188 if data[:1] == b"\x47" else 192)


@dataclass(frozen=True, eq=False)
class ElementaryStream:
    """The bytes of one stream, and where each piece of them lies.

    Attributes:
        data: the pieces, joined.
        offsets: int64 [n], of each piece's first byte in the file.
        begins: int64 [n], of each piece's first byte in `data`.
    """

    data: bytes
    offsets: npt.NDArray[np.int64]
    begins: npt.NDArray[np.int64]

    def offset_of(self, place: int) -> int:
        """Where in the file byte `place` of the stream lies."""
        piece = int(np.searchsorted(self.begins, place, side="right")) - 1
        return int(self.offsets[piece]) + place - int(self.begins[piece])

    def place_of(self, offset: int) -> int:
        """Which byte of the stream lies at `offset` of the file; its end if none does."""
        if not len(self.offsets):
            return len(self.data)
        piece = int(np.searchsorted(self.offsets, offset, side="right")) - 1
        return int(self.begins[piece]) + offset - int(self.offsets[piece])


def elementary_stream(data: bytes | memoryview, transport: Transport) -> ElementaryStream:
    """Take one stream out of whole transport packets.

    Args:
        data: transport packets; a last one that is cut short is left out.
        transport: which stream, and how long a packet is.
    """
    stride = transport.stride
    prefix = stride - _PACKET_BYTES
    count = len(data) // stride
    rows = np.frombuffer(data, np.uint8, count * stride).reshape(count, stride)[:, prefix:]
    pid = (rows[:, 1].astype(np.int64) & 0x1F) << 8 | rows[:, 2]
    carries = (rows[:, 0] == _SYNC) & (pid == transport.pid) & (rows[:, 3] & 0x10 != 0)
    numbers = np.flatnonzero(carries)
    rows = rows[numbers]
    has_adaptation = rows[:, 3] & 0x20 != 0
    first = np.where(has_adaptation, 5 + rows[:, 4].astype(np.int64), 4)
    first = np.minimum(first, _PACKET_BYTES)
    # A packet that begins a PES packet carries its header first: nine bytes and as many as it says.
    begins_pes = (rows[:, 1] & 0x40 != 0) & (first <= _PACKET_BYTES - 9)
    says = np.take_along_axis(rows, np.minimum(first + 8, _PACKET_BYTES - 1)[:, None], 1)[:, 0]
    first = np.minimum(first + np.where(begins_pes, 9 + says.astype(np.int64), 0), _PACKET_BYTES)
    kept = np.arange(_PACKET_BYTES) >= first[:, None]
    lengths = _PACKET_BYTES - first
    return ElementaryStream(
        rows[kept].tobytes(),
        numbers * stride + prefix + first,
        np.cumsum(lengths) - lengths,
    )
