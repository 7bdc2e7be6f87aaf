"""Fetch remote byte ranges, whole and right or with an error that says why: retries, waits.

An answer that breaks is continued at the byte where it broke, after a wait that doubles each time
and is jittered, so that many readers do not come back together. What the server says of the file
(size, ETag) is held against what is known of it with every answer.
"""

import asyncio
import os
import random
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from shards.errors import RemoteChangedError, RemoteError, RemoteMissingError
from shards.plural import plural
from shards.storage.answers import (
    Answer,
    BrokenError,
    MissingError,
    PastEndError,
    RefusedError,
    ReplacedError,
    Server,
    brief,
)
from shards.storage.byte_ranges import Piece
from shards.storage.servers import make_server
from shards.storage.urls import public

T = TypeVar("T")

_KINDS = {ReplacedError: RemoteChangedError, MissingError: RemoteMissingError}
IGNORES_RANGES = "the server ignores byte ranges"
_SLOWEST = 16_384  # bytes a second; an answer that is slower than that is broken off
_NO_SIZE_LIMIT = 1 << 28  # of a file whose size nobody told


@dataclass(frozen=True)
class RemoteOptions:
    """How a data set is read from a server.

    Attributes:
        cache_folder: where indexes and ranges are kept; by default `gdt-stream` in the user's
            cache folder ($XDG_CACHE_HOME or ~/.cache). Processes and data sets may share it.
        index_cache_bytes: most that indexes take there.
        range_cache_bytes: most that byte ranges of samples take there; 0 keeps none.
        connections: requests at a time, of all threads of a process together.
        attempts: for one range, the first included.
        timeout_seconds: without a byte, after which an attempt counts as broken.
        backoff_seconds: wait after the first broken attempt; doubles with each further one.
        max_backoff_seconds: longest wait, also where the server asks for a longer one.
        merge_gap_bytes: ranges this close are asked for as one, if less than a fifth more bytes
            are read by it.
        check_etag: refuse a file whose ETag changes; off for servers behind one name that tag
            the same file differently.
        storage_options: for the fsspec file system (credentials, endpoint); better in fsspec's
            or the provider's own environment variables than in a config that is saved.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    cache_folder: str | None = None
    index_cache_bytes: int = 4 << 30
    range_cache_bytes: int = 16 << 30
    connections: int = 32
    attempts: int = 8
    timeout_seconds: float = 30.0
    backoff_seconds: float = 0.2
    max_backoff_seconds: float = 20.0
    merge_gap_bytes: int = 16_384
    check_etag: bool = True
    storage_options: dict[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        for name in ("connections", "attempts", "index_cache_bytes"):
            _must(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("range_cache_bytes", "merge_gap_bytes", "backoff_seconds"):
            _must(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("timeout_seconds", "max_backoff_seconds"):
            _must(getattr(self, name) > 0, name, getattr(self, name), "more than 0")

    def pause_seconds(self, attempt: int, asked: float = 0.0) -> float:
        """How long to wait after an attempt that broke, counted from 0; `asked` by the server."""
        doubled = self.backoff_seconds * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311
        return float(min(self.max_backoff_seconds, max(doubled, asked)))


@dataclass
class Traffic:
    """What a process has asked for and got, since the data set was opened."""

    requests: int = 0
    broken: int = 0
    bytes_fetched: int = 0
    bytes_from_cache: int = 0


@dataclass
class RemoteFile:
    """A remote file: its size if known; ETag and time of change from the first answer on."""

    url: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None


class Transfer:
    """Fetches ranges of files under one URL. Safe to use from several threads, and after a fork."""

    def __init__(self, url: str, options: RemoteOptions) -> None:
        self.options = options
        self.traffic = Traffic()
        self._url = url
        self._pid = 0
        self._server: Server
        self._connections: asyncio.Semaphore

    def fetch(self, file: RemoteFile, ranges: Sequence[tuple[int, int]]) -> list[Piece]:
        """The (start, stop) ranges of a file, asked for at once.

        Raises:
            RemoteError: a range cannot be had; names file, range, attempts and last cause.
        """
        if not ranges:
            return []
        self._connect()
        return self._wait(self._fetch_all(file, ranges))

    def fetch_file(self, file: RemoteFile) -> bytes:
        """A whole file.

        Raises:
            RemoteError: as for `fetch`.
        """
        self._connect()
        return self._wait(self._fetch(file, 0, file.size)).data

    def fetch_first(self, file: RemoteFile, num_bytes: int, offset: int = 0) -> bytes:
        """Bytes from an offset on, fewer where the file ends; its size is known from then on.

        Raises:
            RemoteError: as for `fetch`, or the server does not say how long the file is.
        """
        self._connect()
        return self._wait(self._fetch(file, offset, offset + num_bytes, learn_size=True)).data

    def _connect(self) -> None:
        if self._pid != os.getpid():
            options = self.options
            self._server = make_server(
                self._url, options.connections, options.timeout_seconds, options.storage_options
            )
            self._connections = asyncio.Semaphore(options.connections)
            self._pid = os.getpid()

    @staticmethod
    def _wait(work: Coroutine[Any, Any, T]) -> T:
        from fsspec.asyn import get_loop

        future = asyncio.run_coroutine_threadsafe(work, get_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _fetch_all(self, file: RemoteFile, ranges: Sequence[tuple[int, int]]) -> list[Piece]:
        if len(ranges) == 1:
            return [await self._fetch(file, *ranges[0])]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._fetch(file, *r)) for r in ranges]
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
        else:
            return [task.result() for task in tasks]
        raise first

    async def _fetch(
        self, file: RemoteFile, start: int, stop: int | None, learn_size: bool = False
    ) -> Piece:
        """One range, in as many attempts as it needs and may have."""
        options, got = self.options, bytearray()
        began, cause = time.monotonic(), ""
        for attempt in range(options.attempts):
            try:
                async with self._connections:
                    await self._attempt(file, start, stop, got, learn_size)
                return Piece(start, bytes(got))
            except BrokenError as error:
                self.traffic.broken += 1
                cause = str(error)
                if attempt + 1 < options.attempts:
                    await asyncio.sleep(options.pause_seconds(attempt, error.wait_seconds))
            except RefusedError as error:
                kind = _KINDS.get(type(error), RemoteError)
                raise kind(f"{_name(file, start, stop)}: {error}.", str(error)) from error
        raise RemoteError(
            f"{_name(file, start, stop)}: gave up after {plural(options.attempts, 'attempt')} in "
            f"{time.monotonic() - began:.1f} s, with {len(got)} bytes received; the last one: "
            f"{cause}. Check server and network, or raise attempts.",
            cause,
        )

    async def _attempt(
        self,
        file: RemoteFile,
        start: int,
        stop: int | None,
        got: bytearray,
        learn_size: bool,
    ) -> None:
        """Ask once for what is missing of [start, stop), and add to `got` what comes."""
        at = start + len(got)
        pace = _Pace(self.options.timeout_seconds + self._server.piece_bytes / _SLOWEST)
        self.traffic.requests += 1
        try:
            async with pace.limit, self._server.ask(file.url, at, stop) as answer:
                self._check(file, answer)
                if learn_size and stop is not None:
                    if answer.total is None:
                        raise RefusedError("the server does not say how long the file is")
                    file.size, stop = answer.total, min(stop, answer.total)
                if answer.start != at:
                    whole = start == 0 and stop == file.size
                    if answer.start != 0 or answer.stop != answer.total:
                        raise BrokenError(
                            f"asked for bytes from {at} on, the answer begins at {answer.start}"
                        )
                    if not whole:
                        raise RefusedError(_ignores_ranges(answer))
                    got.clear()
                stop = stop if stop is not None else answer.stop
                await self._receive(answer, start, stop, got, pace)
        except TimeoutError as error:
            raise BrokenError(f"slower than {_SLOWEST} bytes a second") from error
        except PastEndError as error:
            if stop is None and at == error.total:
                return
            if learn_size and error.total == 0:
                file.size = 0
                return
            total = "fewer" if error.total is None else f"{error.total}"
            known = "more" if file.size is None else f"{file.size}"
            raise ReplacedError(
                f"the file has {total} bytes, the manifest says {known}: it was replaced or cut "
                "short. Upload the shards and the manifest anew"
            ) from error

    async def _receive(
        self, answer: Answer, start: int, stop: int | None, got: bytearray, pace: "_Pace"
    ) -> None:
        wanted = None if stop is None else stop - start
        async for chunk in answer.chunks:
            self.traffic.bytes_fetched += len(chunk)
            pace.received(len(chunk))
            got += chunk if wanted is None else chunk[: wanted - len(got)]
            if len(got) == wanted:
                return
            if len(got) > _NO_SIZE_LIMIT and wanted is None:
                raise RefusedError(f"the file has more than {_NO_SIZE_LIMIT} bytes")
        if wanted is not None:
            raise BrokenError(f"the answer ended after {len(got)} of {wanted} bytes")

    def _check(self, file: RemoteFile, answer: Answer) -> None:
        if file.size is not None and answer.total not in (None, file.size):
            raise ReplacedError(
                f"the file has {answer.total} bytes, the manifest says {file.size}: it was "
                "replaced or cut short. Upload the shards and the manifest anew"
            )
        if file.etag is None:
            file.etag = answer.etag
        elif self.options.check_etag and answer.etag not in (None, file.etag):
            raise ReplacedError(
                f"its ETag was {_tag(file)} and is now {_tag(answer)}: the file was replaced while "
                "it was read. Open the data set again; if servers behind one name tag the same "
                "file differently, set check_etag = false"
            )
        if file.etag is None:
            known = file.modified is not None and self.options.check_etag
            if known and answer.modified not in (None, file.modified):
                raise ReplacedError(
                    f"it was changed {file.modified} and is now of {answer.modified}: the file was "
                    "replaced while it was read"
                )
            file.modified = file.modified or answer.modified


class _Pace:
    """A limit of time that moves on with what arrives: `_SLOWEST` on average, after a grace."""

    def __init__(self, grace_seconds: float) -> None:
        self.limit = asyncio.timeout(grace_seconds)
        self._stop = asyncio.get_running_loop().time() + grace_seconds

    def received(self, num_bytes: int) -> None:
        """Give so much more time."""
        self._stop += num_bytes / _SLOWEST
        self.limit.reschedule(self._stop)


def _name(file: RemoteFile, start: int, stop: int | None) -> str:
    which = f"bytes {start} to {stop - 1}" if stop is not None else "the whole file"
    return f"{public(file.url)}, {which}"


def _tag(of: RemoteFile | Answer) -> str:
    return brief(str(of.etag))


def _ignores_ranges(answer: Answer) -> str:
    return (
        f"{IGNORES_RANGES}: it answered with the whole file"
        + (f" of {answer.total} bytes" if answer.total is not None else "")
        + ". Serve the shards with nginx, Apache, S3 or another server that does not "
        "(Python's http.server is none), or copy them here"
    )


def _must(ok: bool, name: str, got: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"RemoteOptions: {name} = {got}, must be {allowed}")
