"""A .tsv file as a data set of texts: every line is a sample, and tabs part its texts.

    A dog runs.                                        one text: what SimCSE compares with itself
    A dog runs. ⇥ An animal moves. ⇥ The dog sleeps.     several, in order

Nothing is decoded: it is for plans whose one modality is text. Blank lines are left out.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from shards.errors import IndexFormatError, ShardError
from shards.format.index import IndexedSample
from shards.plural import plural

TEXT_EXTENSION: Final = ".tsv"


class TextFile:
    """The lines of a UTF-8 file that are not blank, numbered through; its bytes stay in memory.

    Args:
        path: the file.

    Raises:
        IndexFormatError: it cannot be read, is not UTF-8, or has no text.
    """

    is_remote = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._data = self.path.read_bytes()
            self._data.decode()
        except OSError as error:
            raise IndexFormatError(f"{path} cannot be read: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            line = self._data.count(b"\n", 0, error.start) + 1
            raise IndexFormatError(
                f"{path}, line {line}: not UTF-8 ({error.reason}); a data set of texts is a UTF-8 "
                "file with a text a line."
            ) from error
        lines = self._data.split(b"\n")
        ends = np.cumsum([len(line) + 1 for line in lines])
        self._numbers = np.array([n for n, line in enumerate(lines) if line.strip()], np.int64)
        self._spans = np.stack([ends - [len(line) + 1 for line in lines], ends - 1], axis=1)
        if not len(self._numbers):
            raise IndexFormatError(f"{path} has no text: each line of it is blank.")
        self.fingerprint = hashlib.sha256(self._data).hexdigest()[:32]

    def __len__(self) -> int:
        return len(self._numbers)

    def __repr__(self) -> str:
        return f"TextFile({self.path}: {plural(len(self), 'line')})"

    def sample(self, i: int) -> IndexedSample:
        """Line i of those that are not blank, 0 ≤ i < len, under the number it has in the file."""
        return IndexedSample(f"line-{self._number(i) + 1}", self.path.name, {}, None, None)

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of the file."""
        return self._data[offset : offset + size]

    def reader(
        self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]
    ) -> Callable[[int, int], bytes]:
        """See `Dataset.reader`."""
        return partial(self.read, sample)

    def read_member(self, sample: IndexedSample, extension: str) -> bytes:
        """Refuse: a line has no members.

        Raises:
            ShardError: always.
        """
        raise ShardError(f"{sample.key} of {self.path} is a line of text, and has no .{extension}.")

    def metadata(self, i: int) -> dict[str, Any]:
        """Its texts as captions, in order, and the file's name as source."""
        first, stop = self._spans[self._number(i)].tolist()
        texts = self._data[first:stop].decode().split("\t")
        return {"source": self.path.name, "captions": [text.strip() for text in texts]}

    def _number(self, i: int) -> int:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path} has lines 0 to {len(self) - 1}; asked for {i}.")
        return int(self._numbers[i])
