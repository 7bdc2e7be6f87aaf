"""Files below a folder, each a sample: what a folder of images and one of sounds have in common."""

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from shards.errors import IndexFormatError
from shards.format.index import IndexedSample
from shards.plural import plural
from shards.storage.local_listing import files_below


class FileFolder:
    """Files of one kind below a folder, by name, numbered through; see `Samples` for the rest.

    Args:
        path: the folder, or what lists its files.
        names: of the files, below the folder.
    """

    is_remote = False
    #: What a file is, in messages.
    KIND: ClassVar[str]

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path, self._names = path, names
        self._in_hand = threading.local()  # the file that was read last

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_in_hand": None}  # the listing goes along: folders change

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _in_hand=threading.local())

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path}: {plural(len(self), self.KIND)})"

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of a sample's file."""
        raise NotImplementedError

    def reader(
        self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]
    ) -> Callable[[int, int], bytes]:
        """See `Dataset.reader`."""
        return partial(self.read, sample)

    def _name(self, i: int) -> str:
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path} has {self.KIND}s 0 to {len(self) - 1}; asked for {i}.")
        return self._names[i]


def key_of(name: str) -> str:
    """A file's name as it can be printed: what cannot is escaped."""
    if name.isprintable():
        return name
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def files_of_kind(
    folder: Path, kind: str, is_one: Callable[[str], bool]
) -> Iterator[tuple[str, int]]:
    """Name below the folder, and bytes, of each file whose path is one of a kind.

    Raises:
        IndexFormatError: the folder cannot be listed.
    """
    try:
        for path in files_below(str(folder)):
            if is_one(path) and (size := size_of(path)) is not None:
                yield path.removeprefix(str(folder)).lstrip("/"), size
    except OSError as error:
        raise IndexFormatError(
            f"{error.filename} cannot be listed as a folder of {kind}s: {error.strerror}."
        ) from error


def size_of(path: str | os.PathLike[str]) -> int | None:
    """Bytes of a file; 0 where a link leads to none, and None for what is no file, as a pipe."""
    try:
        about = Path(path).stat()
    except OSError:
        return 0  # reading it will say why
    return about.st_size if stat.S_ISREG(about.st_mode) else None
