"""Local files: written whole or not at all, and their checksums."""

import contextlib
import hashlib
import os
import shutil
from pathlib import Path
from typing import IO, Any, BinaryIO


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with path.open("rb") as file:
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
