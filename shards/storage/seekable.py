"""A seekable stretch of another file: its size, and a position to read at."""

import io
import os
from typing import BinaryIO


class Stretch(io.RawIOBase):
    """A seekable binary file of `size` bytes; its subclass reads from `_place` on (`readinto`)."""

    size: int
    _place = 0

    def readable(self) -> bool:
        """As of any file."""
        return True

    def seekable(self) -> bool:
        """As of any file."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        self._place = max(0, start + offset)
        return self._place


class Window(Stretch):
    """A stretch of another file, as a file.

    Args:
        file: the other one, whose place changes.
        offset: where the stretch begins.
        size: of the stretch, in bytes.
    """

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self.size = size
        self._file, self._offset = file, offset

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        """Fill the buffer, as far as the stretch goes."""
        count = max(0, min(len(buffer), self.size - self._place))
        self._file.seek(self._offset + self._place)
        data = self._file.read(count)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
