"""Open a source where it lies: a file, a URL, or a member of a tar, as one seekable binary file.

    Location ─► open_source ─► OpenSource: file (read, seek, tell), identity, SHA-256

Nothing is copied or extracted: a member of a tar is a window on it, a URL is read by byte range
(`remote_file.py`). A source's identity is what tells it from another one under its name: it is
noted when a build is planned, and compared when the source is read.
"""

import hashlib
import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from shards.errors import SourceError
from shards.storage.remote_file import SeekableRemoteFile
from shards.storage.seekable import Window
from shards.storage.transfer import RemoteOptions
from shards.storage.urls import folder_or_url, is_url, public


@dataclass(frozen=True)
class Location:
    """Where a source's bytes lie.

    Attributes:
        path: a file's path, or a URL.
        offset: of the first byte in that file.
        size: bytes from there on; None: to the end of the file.
    """

    path: str
    offset: int = 0
    size: int | None = None

    def __post_init__(self) -> None:
        if self.offset < 0 or (self.size or 0) < 0 or (self.offset and self.size is None):
            raise ValueError(f"{self}: a part has an offset and a size, neither negative")

    def __str__(self) -> str:
        if self.size is None:
            return public(self.path)
        return f"{public(self.path)}, {self.size} bytes at {self.offset}"

    def as_list(self) -> list[str | int]:
        """For json; `Location(*list)` is the location again."""
        return [self.path] if self.size is None else [self.path, self.offset, self.size]


@dataclass(frozen=True)
class Identity:
    """What a source was when it was looked at.

    Attributes:
        size: in bytes.
        version: of a file its time of change, in nanoseconds; of a URL its ETag or else
            Last-Modified, "" where the server says neither; of a tar's member the tar's.
    """

    size: int
    version: str


class OpenSource:
    """A source that is open. `file` is at its beginning, and closes with the source."""

    def __init__(self, file: BinaryIO, look: Callable[[], Identity]) -> None:
        self.file = file
        self._look = look

    def identity(self) -> Identity:
        """What the source is now."""
        return self._look()

    def sha256(self) -> str | None:
        """Hex digest of all bytes; None for a remote one that is too large to be fetched for it."""
        if isinstance(self.file, SeekableRemoteFile) and not self.file.fetch_whole():
            return None
        self.file.seek(0)
        return hashlib.file_digest(self.file, "sha256").hexdigest()  # type: ignore[arg-type]


@contextmanager
def open_source(location: Location, remote: RemoteOptions | None = None) -> Iterator[OpenSource]:
    """Open a source for reading.

    Args:
        location: where it lies.
        remote: how a URL is read; by default as RemoteOptions says.

    Raises:
        SourceError: it cannot be opened, and why. Reading may raise it too.
    """
    path, offset, size = str(folder_or_url(location.path)), location.offset, location.size
    if is_url(path):
        remote_file = SeekableRemoteFile(path, remote or RemoteOptions(), offset, size)
        _check_member(location, remote_file.total)
        whole = Identity(remote_file.total, remote_file.version)
        yield OpenSource(cast(BinaryIO, remote_file), lambda: _of(whole, size))
        return
    try:
        file = _as_written(Path(path)).open("rb")
    except FileNotFoundError as error:
        raise SourceError("open", "no such file", path) from error
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else None
        raise SourceError("open", "cannot be opened", cause or str(error)) from error
    with file:
        _check_member(location, _on_disk(file).size)
        window = cast(BinaryIO, Window(file, offset, size)) if size is not None else file
        yield OpenSource(window, lambda: _of(_on_disk(file), size))


def _as_written(path: Path) -> Path:
    """The path in the Unicode form that is on the disk: lists and disks may differ in it."""
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return path if path.exists() else next((form for form in forms if form.exists()), path)


def _check_member(location: Location, total: int) -> None:
    if location.offset + (location.size or 0) > total:
        detail = f"{location}; the tar has {total}"
        raise SourceError("open", "the tar ends before its member", detail)


def _on_disk(file: BinaryIO) -> Identity:
    status = os.fstat(file.fileno())
    return Identity(status.st_size, str(status.st_mtime_ns))


def _of(whole: Identity, size: int | None) -> Identity:
    """The identity of a source out of that of its file."""
    return whole if size is None else Identity(size, f"{whole.size}:{whole.version}")
