"""Deinterlace frames that hold two fields, taken one after the other.

Broadcasts, DV and old camcorders code two fields, 1/50 or 1/60 s apart, as the odd and even lines
of one frame; what moves is combed in it. FFmpeg's bwdif makes one frame of two fields, as they
were at the time of the first, from them and the frames before and after. Each frame says for
itself whether it has fields; one that has none passes as it is, and costs nothing until one has.
"""

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any, NamedTuple

import av

from shards.media.frame_fitting import filter_chain


class TimedFrame(NamedTuple):
    """A decoded frame without fields, when it comes on screen, and whether it was interlaced."""

    frame: Any
    time: Fraction
    was_interlaced: bool


class Deinterlacer:
    """Take the decoded frames of a source in order; each comes out once, in order."""

    def __init__(self) -> None:
        self._chain: Any = None  # from the first frame with fields on
        self._within: deque[TimedFrame | None] = deque()  # what is in it; None was handed on before
        self._before: Any = None  # the frame before, until there is a chain

    def push(self, frame: Any, time: Fraction) -> Iterator[TimedFrame]:
        """The frames that are ready: this one, or, once some have fields, the one before it."""
        timed = TimedFrame(frame, time, bool(frame.interlaced_frame))
        before, self._before = self._before, frame
        if before is not None and _kind(before) != _kind(frame):
            yield from self.finish()
            before, self._before = None, frame
        if self._chain is None and timed.was_interlaced:
            size = (frame.width, frame.height)
            self._chain = filter_chain(
                size, frame.format.name, ["bwdif=mode=send_frame:deint=interlaced"]
            )
            if before is not None:
                self._within.append(None)
                self._chain.vpush(before)
        if self._chain is None:
            yield timed
            return
        self._within.append(timed)
        self._chain.vpush(frame)
        yield from self._ready()

    def finish(self) -> Iterator[TimedFrame]:
        """The frames that waited for one after them."""
        if self._chain is not None:
            self._chain.vpush(None)
            yield from self._ready()
            self._chain = None
            self._within.clear()

    def _ready(self) -> Iterator[TimedFrame]:
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                whole = self._chain.vpull()
                timed = self._within.popleft()
                if timed is not None:
                    whole.time_base = timed.frame.time_base
                    whole.pts, whole.duration = timed.frame.pts, timed.frame.duration
                    yield timed._replace(frame=whole)


def _kind(frame: Any) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name
