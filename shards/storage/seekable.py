"""A seekable stretch of another file: its size, and a position to read at."""

import io
import os


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
