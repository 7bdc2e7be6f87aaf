"""Write to a URL: whole objects, each retried where that may help, and checked by its size.

An object store shows an object when all of it has arrived, so there is no half file under a final
name. (Where a protocol of fsspec is no object store, a file may be seen while it grows; nobody
reads a shard that no manifest lists, and a build that goes on compares sizes.)
"""

import contextlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

from shards.errors import BuildError
from shards.plural import plural
from shards.storage.servers import S3Server
from shards.storage.transfer import RemoteOptions
from shards.storage.urls import public

T = TypeVar("T")


class RemoteFolder:
    """A folder under a URL that may be written. Copies sent to another process connect anew.

    Args:
        url: of the folder; nothing needs to be there yet, but an S3 bucket.
        options: attempts, waits and storage_options.

    Raises:
        BuildError: nothing can be written to a URL of this kind.
    """

    def __init__(self, url: str, options: RemoteOptions | None = None) -> None:
        self.url, self._options = url.rstrip("/"), options or RemoteOptions()
        self.location = public(self.url)
        self._pid = 0
        self._fs: Any = None
        self._broken: tuple[type[Exception], ...] = (OSError,)
        self._final: tuple[type[Exception], ...] = ()
        if url.startswith(("http://", "https://")) or "?" in url or "#" in url:
            raise BuildError(
                f"{self.location} cannot be written: name a folder of this machine, or a URL of a "
                "store that takes files, as in s3://bucket/folder."
            )

    def __reduce__(self) -> Any:
        return (RemoteFolder, (self.url, self._options))

    def read(self, name: str) -> bytes | None:
        """A small file; None if there is none."""
        return self._attempt("read", name, lambda path: self._read(path))

    def read_into(self, file: IO[bytes], name: str) -> None:
        """Add the bytes of a file of any size to one here; none where it is not there."""
        before = file.tell()

        def read(path: str) -> None:
            file.seek(before)
            file.truncate()
            with contextlib.suppress(FileNotFoundError), self._fs.open(path, "rb") as found:
                shutil.copyfileobj(found, file)

        self._attempt("read", name, read)

    def write(self, name: str, data: bytes) -> None:
        """Write a small file."""
        self._attempt("written", name, lambda path: self._fs.pipe_file(path, data))

    def upload(self, source: Path, name: str) -> None:
        """Copy a file of this machine there, and see that all of it has arrived."""
        self._attempt("written", name, lambda path: self._upload(source, path))

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._attempt("removed", name, lambda path: self._fs.rm_file(path))

    def sizes(self, folder: str = "") -> dict[str, int]:
        """What lies in a folder: names and sizes; folders in it have size 0."""
        found = self._attempt("listed", folder, self._list)
        return {entry["name"].rstrip("/").rpartition("/")[2]: entry["size"] or 0 for entry in found}

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._fs.cat_file(path))
        except FileNotFoundError:
            return None

    def _upload(self, source: Path, path: str) -> None:
        self._fs.put_file(str(source), path)
        self._fs.invalidate_cache()
        size, arrived = source.stat().st_size, self._fs.info(path)["size"]
        if arrived != size:
            raise OSError(f"{arrived} of {size} bytes have arrived")

    def _list(self, path: str) -> list[dict[str, Any]]:
        self._fs.invalidate_cache()
        try:
            return list(self._fs.ls(path, detail=True))
        except FileNotFoundError:
            return []

    def _attempt(self, done: str, name: str, work: Callable[[str], T]) -> T:
        """Do something with a file, as often as it needs and may."""
        url = f"{self.url}/{name}".rstrip("/")
        began, cause = time.monotonic(), ""
        for attempt in range(self._options.attempts):
            try:
                self._connect()
                return work(self._fs._strip_protocol(url))
            except (FileNotFoundError, PermissionError, NotImplementedError) as error:
                raise BuildError(_refused(url, done, error)) from error
            except self._broken as error:
                cause = f"{type(error).__name__}: {error}"
            except self._final as error:
                raise BuildError(_refused(url, done, error)) from error
            if attempt + 1 < self._options.attempts:
                time.sleep(self._options.pause_seconds(attempt))
        attempts = plural(self._options.attempts, "attempt")
        raise BuildError(
            f"{public(url)} could not be {done}: gave up after {attempts} "
            f"in {time.monotonic() - began:.1f} s; the last one: {cause}. Check server and "
            "network, then run the same command again: what has arrived is kept."
        )

    def _connect(self) -> None:
        if self._pid == os.getpid():
            return
        scheme, options = self.url.partition("://")[0], self._options
        try:
            if scheme in ("s3", "s3a"):
                server = S3Server(
                    options.connections, options.timeout_seconds, options.storage_options
                )
                self._fs, self._broken, self._final = server.fs, server.broken, (server.final,)
                self._fs.retries = 1
            else:
                import fsspec

                self._fs = fsspec.filesystem(scheme, **options.storage_options)
        except (ImportError, ValueError) as error:
            extra = " (pip install 'gdt-stream[s3]')" if scheme in ("s3", "s3a") else ""
            raise BuildError(f"{scheme}:// cannot be written: {error}{extra}.") from error
        self._pid = os.getpid()


def _refused(url: str, done: str, error: Exception) -> str:
    missing = isinstance(error, FileNotFoundError)
    what = "Does the bucket exist?" if missing else "Check the credentials."
    cause = f"{error}".rstrip(".") or type(error).__name__
    return f"{public(url)} could not be {done}: {cause}. {what}"
