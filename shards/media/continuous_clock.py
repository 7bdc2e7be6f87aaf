"""One clock for a video whose own restarts: recordings joined end to end, a stream restarted.

    part 0: 0 … 7.4 s ─┐   part 1: 0 … 4 s        the container's clock jumps back
    part 0: 0 … 7.4 s ──► part 1: 7.4 … 11.4 s     what is read of it

A part begins where a stream's decoding times jump back, as for the `ffmpeg` command; in formats
whose clocks may jump (MPEG transport and program streams) also where they jump ahead and no other
stream is there yet. The first stream that comes to a part sets where it lies: its packet follows on
the one before. The others are moved by as much, so audio keeps its place beside the video.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

JUMP_BACK_SECONDS = 0.1  # both are those of the `ffmpeg` command
JUMP_AHEAD_SECONDS = 10
_MICROSECONDS = 1_000_000
_BACK = round(JUMP_BACK_SECONDS * _MICROSECONDS)
_AHEAD = JUMP_AHEAD_SECONDS * _MICROSECONDS


@dataclass
class _Stream:
    """Where a stream is: its part, and on the continuous clock its last packet and its end."""

    part: int
    last: int
    end: int


class ContinuousClock:
    """Moves the packets of one container, in file order, onto a clock that never jumps.

    jumped: whether the container's own has, so far.

    Args:
        may_jump_ahead: whether a jump ahead of all streams is a new part, and not a pause.
    """

    def __init__(self, may_jump_ahead: bool) -> None:
        self._ahead = _AHEAD if may_jump_ahead else 1 << 62
        self._offsets = [0]  # of each part, in microseconds
        self._streams: dict[int, _Stream] = {}

    @property
    def jumped(self) -> bool:
        """Whether there is more than one part so far."""
        return len(self._offsets) > 1

    def place(self, packet: Any) -> None:
        """Move a packet's times; one without a decoding time is moved as the one before."""
        stream = self._streams.get(packet.stream_index)
        if packet.dts is None:
            part = stream.part if stream is not None else 0
        else:
            second: Fraction = _MICROSECONDS * packet.time_base
            time = packet.dts * second.numerator // second.denominator
            length = (packet.duration or 0) * second.numerator // second.denominator
            part = self._part(time, stream)
            time += self._offsets[part]
            self._streams[packet.stream_index] = _Stream(part, time, time + length)
        if part:
            _move(packet, self._offsets[part])

    def _part(self, time: int, stream: _Stream | None) -> int:
        """The part that a packet of this decoding time belongs to."""
        if stream is None:  # the first of its stream: where the others are
            here = max((other.end for other in self._streams.values()), default=time)
            away = [abs(time + offset - here) for offset in self._offsets]
            return away.index(min(away))
        newer: list[int] = [stream.part, *range(len(self._offsets) - 1, stream.part, -1)]
        for part in newer + list(range(stream.part)):
            if abs(time + self._offsets[part] - stream.end) <= _BACK:
                return part
        latest = max(other.end for other in self._streams.values()) + self._ahead
        for part in newer:
            if stream.last - _BACK <= time + self._offsets[part] <= latest:
                return part
        self._offsets.append(stream.end - time)
        return len(self._offsets) - 1


def _move(packet: Any, microseconds: int) -> None:
    ticks = round(microseconds / (_MICROSECONDS * packet.time_base))
    if packet.pts is not None:
        packet.pts += ticks
    if packet.dts is not None:
        packet.dts += ticks
