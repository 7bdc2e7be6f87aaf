"""Share memory between processes: blocks by number, each of a file without a name.

A file without a name is freed by the system with the last process that has it open or mapped, so
nothing is left behind, however a run ends. Other processes are sent the open file.
"""

import mmap
import os
import tempfile
import threading
import weakref
from collections import deque
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Place", "SharedMemory", "map_block"]


class Place(NamedTuple):
    """An array in a block of shared memory."""

    block: int
    offset: int
    shape: tuple[int, ...]
    dtype: str


class SharedMemory:
    """Blocks of memory by number, each a file without a name."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[int, int, int]] = {}  # file, size, address
        self._next = 0
        # A finalizer may run anywhere, also where this thread holds the lock: it takes none.
        self._unused: deque[int] = deque()
        self._lock = threading.Lock()

    def allocate(self, num_bytes: int) -> NDArray[np.uint8]:
        """A new block; freed when nobody refers to it."""
        file = _nameless_file(num_bytes)
        memory = np.frombuffer(mmap.mmap(file, num_bytes), np.uint8)
        with self._lock:
            number = self._next
            self._next += 1
            self._blocks[number] = file, num_bytes, memory.ctypes.data
        weakref.finalize(memory, _release, file, self._unused, number).atexit = False
        return memory

    def place(self, array: NDArray[Any] | None) -> Place | None:
        """Where an array lies that is part of a block."""
        if array is None:
            return None
        address = array.__array_interface__["data"][0]
        with self._lock:
            self._forget_unused()  # a newer block may lie where one of them lay
            for number, (_, size, begin) in self._blocks.items():
                if begin <= address < begin + size:
                    return Place(number, address - begin, array.shape, array.dtype.str)
        raise ValueError("this array is not in shared memory; take it from Workers.allocate")

    def changes(
        self, known: set[int], used: set[int]
    ) -> tuple[dict[int, tuple[int, int]], tuple[int, ...]]:
        """Blocks (file, size) that are used and not known, and known ones that are no more."""
        with self._lock:
            self._forget_unused()
            fresh = {number: self._blocks[number][:2] for number in used - known}
            return fresh, tuple(known - set(self._blocks))

    def _forget_unused(self) -> None:
        while self._unused:
            del self._blocks[self._unused.popleft()]


def _release(file: int, unused: deque[int], number: int) -> None:
    os.close(file)
    unused.append(number)


def _nameless_file(num_bytes: int) -> int:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("batch")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    os.ftruncate(file, num_bytes)
    return file


def map_block(file: int, num_bytes: int) -> mmap.mmap:
    """Map a block whose open file another process has sent; closes the file."""
    try:
        return mmap.mmap(file, num_bytes)
    finally:
        os.close(file)
