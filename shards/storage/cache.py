"""A bounded local cache of remote bytes: whole files, and byte ranges of samples.

Each entry is a file of its own, made whole under another name and then renamed, so a killed process
leaves no half entry; and every entry is verified when it is used, so what a power cut leaves is not
served either. The folder is the only record: no table in memory grows, and several processes may
share it. The least recently used entries make room for new ones.

    FOLDER/lock           who may write; it holds how many bytes are taken
    FOLDER/new            the entry being written, at most one
    FOLDER/…              entries; an entry's modification time is when it was last used
"""
# Thousands of paths a second: pathlib would take longer than the disk.
# ruff: noqa: PTH103, PTH104, PTH106, PTH108, PTH120, PTH123, PTH208

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from shards.errors import ShardError
from shards.storage.byte_ranges import Piece

_BLOCK = 4096  # what a small file takes on disk, at least; its folder entry counts as one more
_KEPT = 7 / 8  # of the limit, after room was made: making room reads the whole folder
_EXTENT = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]{8})")


class BoundedFolder:
    """Files in one folder that take at most `limit_bytes` on disk, the least recently used leaving.

    Args:
        folder: is made where it does not exist; belongs to the cache alone.
        limit_bytes: of all entries, rounded up to disk blocks.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes

    def put(self, name: str, data: bytes) -> bool:
        """Store an entry; whether it fits at all.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        cost = _cost(len(data))
        if cost > self.limit_bytes:
            return False
        with _locked(self.folder, "lock") as lock:
            used = _count(lock)
            if used is None or used + cost > self.limit_bytes:
                used = self._make_room(int(self.limit_bytes * _KEPT) - cost)
            # counted first: after a kill the count is too high, never too low, until it is taken
            os.pwrite(lock, b"%020d" % (used + cost), 0)
            new, path = f"{self.folder}/new", f"{self.folder}/{name}"
            _write(new, data)
            try:
                os.rename(new, path)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.rename(new, path)
        return True

    def used_bytes(self) -> int:
        """What all entries take, counted anew."""
        return sum(cost for _, cost, _ in self._entries())

    def _make_room(self, target: int) -> int:
        """Drop the entries that were not used for longest until `target` is left; what is left."""
        # 16 bytes an entry for the time of this call, however many there are
        table = np.fromiter(((c, t) for _, c, t in self._entries()), np.dtype("i8,i8"))
        costs, times = table["f0"], table["f1"]
        used = int(costs.sum())
        if used <= target:
            return used
        order = np.argsort(times, kind="stable")
        last = int(np.searchsorted(np.cumsum(costs[order]), used - max(0, target)))
        newest_dropped = int(times[order[last]])
        for path, cost, time in self._entries():
            if time <= newest_dropped:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
                used -= cost
                with contextlib.suppress(OSError):  # not empty
                    os.rmdir(os.path.dirname(path))
            if used <= target:
                break
        return used

    def _entries(self) -> Iterator[tuple[str, int, int]]:
        """Path, bytes on disk and time of last use of every entry."""
        waiting = [str(self.folder)]
        while waiting:
            folder = waiting.pop()
            with contextlib.suppress(FileNotFoundError), os.scandir(folder) as inside:
                for entry in inside:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif folder != str(self.folder) or entry.name not in ("lock", "new"):
                        with contextlib.suppress(FileNotFoundError):
                            about = entry.stat(follow_symlinks=False)
                            yield entry.path, _cost(about.st_size), about.st_mtime_ns


class FileCache:
    """Whole files by their SHA-256."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._files = BoundedFolder(folder, limit_bytes)

    def get(self, sha256: str, size: int, fetch: Callable[[], bytes]) -> Path:
        """The file with this digest, fetched where it is not there or was damaged.

        One process of a machine fetches, the others wait for it.

        Args:
            sha256: hex; `fetch` has to return bytes of this digest.
            size: in bytes.
            fetch: is called at most once.

        Raises:
            ShardError: it cannot be kept: too large for the limit, or the disk is full.
        """
        path = self._files.folder / sha256
        try:
            if self._holds(path, sha256):
                return path
            with _locked(self._files.folder.parent, f"fetching-{sha256[0]}"):
                if self._holds(path, sha256):
                    return path
                data = fetch()
                if not self._files.put(sha256, data):
                    raise ShardError(
                        f"An index of {size} bytes does not fit the cache of "
                        f"{self._files.limit_bytes} bytes for indexes: raise index_cache_bytes."
                    )
        except OSError as error:
            raise ShardError(
                f"The cache {self._files.folder} cannot be written ({error.strerror}), and an index"
                " has to be kept there: make room, or name another folder with cache_folder."
            ) from error
        return path

    @staticmethod
    def _holds(path: Path, sha256: str) -> bool:
        try:
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    path.unlink(missing_ok=True)
                    return False
        except FileNotFoundError:
            return False
        with contextlib.suppress(OSError):  # a cache may be read-only
            os.utime(path)
        return True


class RangeCache:
    """Byte ranges of samples, a folder for each sample; a limit of 0 keeps nothing."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._files = BoundedFolder(folder, limit_bytes)

    def get(self, sample: str, ranges: Sequence[tuple[int, int]]) -> list[Piece]:
        """What is there of the (start, stop) `ranges`, by start; a damaged entry is dropped."""
        pieces = []
        folder = f"{self._files.folder}/{sample}"
        try:
            names = os.listdir(folder) if self._files.limit_bytes else []
        except OSError:  # none there, or a disk that fails: as good as none
            return []
        for name in names:
            match = _EXTENT.fullmatch(name)
            if match is None:
                continue
            start, stop, crc32 = (int(part, 16) for part in match.groups())
            if not any(start < b and a < stop for a, b in ranges):
                continue
            path = f"{folder}/{name}"
            try:
                data = _read(path)
                if len(data) == stop - start and zlib.crc32(data) == crc32:
                    pieces.append(Piece(start, data))
                    os.utime(path)
                else:
                    os.unlink(path)
            except OSError:
                continue  # dropped for room by another reader, mostly
        return sorted(pieces)

    def put(self, sample: str, piece: Piece) -> None:
        """Keep a piece.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        if self._files.limit_bytes:
            name = f"{piece.start:x}-{piece.stop:x}-{zlib.crc32(piece.data):08x}"
            self._files.put(f"{sample}/{name}", piece.data)

    def forget(self, sample: str) -> None:
        """Drop all that is kept of a sample."""
        shutil.rmtree(self._files.folder / sample, ignore_errors=True)


def _cost(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK + _BLOCK


def _count(lock: int) -> int | None:
    """The number in the lock file; None where it was never written, or is damaged."""
    digits = os.pread(lock, 32, 0)
    return int(digits) if len(digits) == 20 and digits.isdigit() else None


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


@contextlib.contextmanager
def _locked(folder: Path, name: str) -> Iterator[int]:
    """Alone among all threads and processes that lock this file; a killed one lets go."""
    path, flags = f"{folder}/{name}", os.O_RDWR | os.O_CREAT
    try:
        lock = os.open(path, flags, 0o600)
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(path, flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
    finally:
        os.close(lock)
