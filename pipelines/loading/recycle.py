"""Reuse the memory of batches that nobody holds any more.

A batch's frames are tens of megabytes, and memory that is new to a process costs a page fault for
every 4 KiB of it when it is first written: on a small machine as much as a fifth of decoding. So an
array handed out here gives its memory back when it, and every view and tensor made of it, is gone.
"""

import math
import weakref
from collections import deque
from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Recycler", "allocate_pages"]


def allocate_pages(num_bytes: int) -> NDArray[np.uint8]:
    """New memory of this process."""
    return np.empty(num_bytes, np.uint8)


class Recycler:
    """Source of arrays, which keeps the memory of up to `limit` that were given back.

    Args:
        limit: more than this is let go.
        allocate: gives a number of bytes of new memory.
    """

    def __init__(
        self, limit: int, allocate: Callable[[int], NDArray[np.uint8]] = allocate_pages
    ) -> None:
        self._limit, self._allocate = limit, allocate
        self._free: list[NDArray[np.uint8]] = []
        # A finalizer may run anywhere, also where this thread holds the lock: it takes none.
        self._given_back: deque[NDArray[np.uint8]] = deque()
        self._lock = Lock()

    def __reduce__(self) -> Any:
        return (
            Recycler,
            (self._limit, self._allocate),
        )  # a copy in another process starts with nothing

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of unspecified content, like `np.empty`."""
        dtype = np.dtype(dtype)
        memory = self._take(math.prod(shape) * dtype.itemsize)
        # An array that owns no memory is what all its views refer to, if its base is no array.
        array = np.frombuffer(memory.data, dtype, math.prod(shape))
        weakref.finalize(array, self._given_back.append, memory).atexit = False
        return array.reshape(shape)

    def _take(self, num_bytes: int) -> NDArray[np.uint8]:
        with self._lock:
            while self._given_back:
                self._free.append(self._given_back.popleft())
            del self._free[: -self._limit]
            for place in reversed(range(len(self._free))):  # the last one may still be in a cache
                if self._free[place].nbytes == num_bytes:
                    return self._free.pop(place)
        return self._allocate(num_bytes)
