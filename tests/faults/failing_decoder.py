"""A decoder that does its worst with some samples; workers import it by name."""

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pipelines.decoding.backends.av import PacketDecoder
from pipelines.decoding.backends.backend import FrameRequest
from pipelines.skips import MismatchError
from shards import IndexedSample


def _hang() -> None:
    while True:
        time.sleep(0.01)


def _spin() -> None:
    """Hangs in C, and keeps Python's lock."""
    ctypes.PyDLL(None).sleep(3600)


def _divide() -> None:
    raise ZeroDivisionError("nobody foresaw it")


def _mismatch() -> None:
    raise MismatchError("set segment.frame_size")


def _eat() -> None:
    np.zeros(1 << 30, np.uint8)


WORST: dict[str, Callable[[], object]] = {
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "hang": _hang,
    "hang in C": _spin,
    "unforeseen": _divide,
    "mismatch": _mismatch,
    "hunger": _eat,
}


class FailingDecoder(PacketDecoder):
    """Decodes like the default one, but for the samples that begin at these offsets."""

    def __init__(self, faults: dict[int, str]) -> None:
        super().__init__()
        self.faults = faults

    def __reduce__(self) -> Any:
        return (FailingDecoder, (self.faults,))

    def frames(self, request: FrameRequest, out: np.ndarray[Any, Any]) -> None:
        fault = self.faults.get(request.track.member_offset)
        if fault is not None:
            out[:] = 77  # half done is not to be seen
            WORST[fault]()
        super().frames(request, out)


def offset_of(sample: IndexedSample) -> int:
    assert sample.video is not None
    return sample.video.member_offset
