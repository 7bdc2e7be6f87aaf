"""Decode on hardware and CPU threads at once: hardware takes a sample while it has a place free.

A loader's threads take samples in order; each asks for a place at the hardware and decodes on its
own core when there is none. So neither waits for the other, and which of the two a sample went to
changes nothing: their planes are the same bytes (the standards of H.264, HEVC, VP9 and AV1 say what
a decoder's output is, bit for bit).
"""

import threading
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.decoding.backends.backend import AudioRequest, Backend, FrameRequest
from pipelines.decoding.backends.gpu import decode_on_cpu

__all__ = ["HybridDecoder"]


class HybridDecoder:
    """Two backends that share the samples; see `Backend`.

    Args:
        hardware: gives frames on its device.
        software: gives frames in arrays, and decodes audio.
        places: samples that the hardware works on at a time; the other threads use `software`.

    Attributes:
        device: the hardware's.
        fallbacks: what the hardware refused; what it had no place for is no fallback.
        decoded: how many samples each of the two decoded, "hardware" and "software".
    """

    def __init__(self, hardware: Backend, software: Backend, places: int) -> None:
        self._hardware, self._software, self._num_places = hardware, software, places
        self.device = hardware.device
        self.fallbacks = hardware.fallbacks
        self.decoded: Counter[str] = Counter()
        self._places = threading.Semaphore(places)
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        return (HybridDecoder, (self._hardware, self._software, self._num_places))

    def frames(self, request: FrameRequest, out: Any) -> None:
        """See `Backend.frames`."""
        by_hardware = self._places.acquire(blocking=False)
        with self._lock:
            self.decoded["hardware" if by_hardware else "software"] += 1
        if by_hardware:
            try:
                self._hardware.frames(request, out)
            finally:
                self._places.release()
        else:
            decode_on_cpu(self._software, request, out)

    def samples(self, request: AudioRequest, out: NDArray[np.float32]) -> None:
        """See `Backend.samples`."""
        self._software.samples(request, out)
