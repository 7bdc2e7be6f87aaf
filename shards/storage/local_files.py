"""Local files: written whole or not at all, and their checksums."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple


class Identity(NamedTuple):
    """What tells a file from another that came in its place, or from itself before a change."""

    size: int
    mtime_ns: int
    inode: int
    device: int

    @classmethod
    def of(cls, file: int) -> "Identity":
        """The identity of an open file, by its number."""
        found = os.fstat(file)
        return cls(found.st_size, found.st_mtime_ns, found.st_ino, found.st_dev)


def open_descriptor(path: Path) -> int:
    """Open a file to be read, without waiting for the other end of a pipe; returns its number.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device or a folder.
    """
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # which means nothing to a regular file
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        what = "is no regular file, but a pipe, a device or a folder"
        raise OSError(errno.EINVAL, what, str(path))
    return file


def open_regular(path: Path) -> BufferedReader:
    """Open a file to be read; raises as `open_descriptor` does."""
    return os.fdopen(open_descriptor(path), "rb")


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes | BinaryIO) -> None:
    """Write a whole file or nothing: temporary name, flush to disk, rename, flush the folder."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        if isinstance(data, bytes):
            file.write(data)
        else:
            shutil.copyfileobj(data, file)
        flush_to_disk(file)
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def flush_to_disk(file: Any) -> None:
    """See that what was written to an open file survives a power cut."""
    file.flush()
    os.fsync(file.fileno())


class LocalFolder:
    """A folder of this machine to write to; upload.RemoteFolder is the same for a URL."""

    def __init__(self, path: Path) -> None:
        self.path, self.location = path, f"{path}"

    def read(self, name: str) -> bytes | None:
        """A small file; None if there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def read_into(self, file: IO[bytes], name: str) -> None:
        """Add the bytes of a file of any size to another; none where it is not there."""
        with contextlib.suppress(FileNotFoundError), (self.path / name).open("rb") as found:
            shutil.copyfileobj(found, file)

    def write(self, name: str, data: bytes | BinaryIO) -> None:
        """Write a file, whole or not at all."""
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / name, data)

    def upload(self, source: Path, name: str) -> None:
        """Copy a file there, whole or not at all."""
        with source.open("rb") as file:
            self.write(name, file)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """What lies in a folder: names and sizes."""
        try:
            with os.scandir(self.path / folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries}
        except (FileNotFoundError, NotADirectoryError):
            return {}
