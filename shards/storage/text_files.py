"""Files that people name: read whole up to a size, or line by line; never a device or a pipe.

A file without an end, or a line without one, would take all memory before anyone could say so.
"""

import errno
from io import TextIOWrapper
from pathlib import Path

from shards.storage.local_files import open_regular

MOST_BYTES = 64 << 20
MOST_CHARACTERS = 1 << 20  # of a line


def read_small(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger than that.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"has more than {most} bytes", str(path))
    return data


class TextLines(TextIOWrapper):
    """A text file in UTF-8, with or without a mark at its beginning, line by line.

    Raises:
        OSError: it cannot be read, is no regular file, or has a line of more than 1 MiB.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(open_regular(path), encoding="utf-8-sig", newline="")
        self._path = path

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        """The next line, with its end."""
        line = super().readline(MOST_CHARACTERS)
        if len(line) == MOST_CHARACTERS:
            what = f"has a line of {MOST_CHARACTERS} characters or more"
            raise OSError(errno.EFBIG, what, str(self._path))
        return line

    def __next__(self) -> str:  # type: ignore[override]
        line = self.readline()
        if not line:
            raise StopIteration
        return line
