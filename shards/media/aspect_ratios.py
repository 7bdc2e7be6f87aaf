"""The shape of pixels, frame by frame: broadcasts change it where a wide programme begins.

PyAV tells the shape that a decoder last met, not that of a frame, which may come out later. So it
is noted for each packet that goes in, and looked up for the frame of the same time that comes out.
"""

import bisect
from fractions import Fraction
from typing import Any

_MOST_WAITING = 1000  # packets whose frames never come


class AspectRatios:
    """Width over height of the pixels of a stream's frames; what the container says comes first."""

    def __init__(self, stream: Any = None) -> None:
        self._said: Fraction | None = stream.sample_aspect_ratio if stream else None
        #: What the decoder is told before it begins, or else that of its first packet.
        self._first = (stream.codec_context.sample_aspect_ratio or None) if stream else None
        self._waiting: dict[int, Fraction | None] = {}  # of the packets whose frames are to come
        self._times: list[Fraction] = []  # at which another shape begins, in order
        self._shapes: list[Fraction | None] = []

    def sent(self, packet: Any) -> None:
        """Note the shape that the decoder is at, now that it has a packet."""
        shape = packet.stream.codec_context.sample_aspect_ratio
        if self._first is None:
            self._first = shape
        if packet.pts is not None:
            self._waiting[packet.pts] = shape
            if len(self._waiting) > _MOST_WAITING:
                del self._waiting[next(iter(self._waiting))]

    def came(self, frame: Any, time: Fraction) -> None:
        """A frame came out that begins at `time`."""
        before = self._shapes[-1] if self._shapes else self._said
        shape = self._waiting.pop(frame.pts, self._first)
        shape = self._said if shape == self._first else shape
        if shape != before and (not self._times or time > self._times[-1]):
            self._times.append(time)
            self._shapes.append(shape)

    def at(self, time: Fraction) -> Fraction | None:
        """The shape of the frame that begins at `time`, or is shown then."""
        n = bisect.bisect_right(self._times, time)
        return self._shapes[n - 1] if n else self._said
