"""Ask one server once for a byte range: http(s), S3, or whatever else fsspec speaks.

It says what came, without judging it: `Answer` tells which bytes follow and what the
server knows of the file. What is worth another attempt is `BrokenError`, what is not `RefusedError`
(transfer.py decides, and counts). All run on fsspec's event loop.
"""

import asyncio
import contextlib
import email.utils
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from shards.errors import RemoteError

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_UNSATISFIED = re.compile(r"bytes \*/(\d+)")
_GONE = {404, 410}
_LATER = {408, 425, 429, 500, 502, 503, 504, 507, 509, 520, 521, 522, 523, 524, 529}


class BrokenError(Exception):
    """An attempt that may go better the next time, after `wait_seconds` where that is said."""

    def __init__(self, cause: str, wait_seconds: float = 0.0) -> None:
        super().__init__(cause)
        self.wait_seconds = wait_seconds


class RefusedError(Exception):
    """An answer that another attempt would not change."""


class MissingError(RefusedError):
    """There is no such file."""


class ReplacedError(RefusedError):
    """The answer is about another file than the one that was asked for."""


class PastEndError(Exception):
    """The range lies outside the file, which has `total` bytes where the server says so."""

    def __init__(self, total: int | None) -> None:
        super().__init__(total)
        self.total = total


@dataclass(frozen=True)
class Answer:
    """Bytes of a file, as the server describes them.

    Attributes:
        start: of the first byte that follows.
        stop: where they end, excluded; None where it is not said.
        total: size of the whole file; None where it is not said.
        etag: the file's version; None where it is not said or does not stand for the exact bytes.
        modified: when the file was last changed, as the server writes it; None where not said.
        chunks: the bytes, in parts.
    """

    start: int
    stop: int | None
    total: int | None
    etag: str | None
    modified: str | None
    chunks: AsyncIterator[bytes]


class Server(Protocol):
    """One way to ask."""

    def ask(self, url: str, start: int, stop: int | None) -> AbstractAsyncContextManager[Answer]:
        """Ask for bytes [start, stop) of a file, or all from start on where stop is None.

        Raises:
            BrokenError: try again.
            RefusedError: do not.
            PastEndError: the file is shorter.
        """


def make_server(
    url: str, connections: int, timeout_seconds: float, storage_options: Mapping[str, Any]
) -> Server:
    """What speaks to this URL.

    Raises:
        RemoteError: nothing that is installed does; says what to install.
    """
    scheme = url.partition("://")[0]
    try:
        if scheme in ("http", "https"):
            return _Http(connections, timeout_seconds, storage_options)
        if scheme in ("s3", "s3a"):
            return S3Server(connections, timeout_seconds, storage_options)
        return _AnyFileSystem(scheme, storage_options)
    except ImportError as error:
        extra = {"http": "http", "https": "http", "s3": "s3", "s3a": "s3"}.get(scheme)
        install = f"install gdt-stream[{extra}]" if extra else "install it with pip"
        raise RemoteError(
            f"{scheme}:// needs a package that is not here ({error}): {install}."
        ) from error
    except ValueError as error:
        raise RemoteError(
            f"{scheme}:// is not a protocol that fsspec knows ({error}); http, https, s3 and file "
            "are the common ones."
        ) from error


class _Http:
    """Requests of our own on fsspec's session: its own calls do not check what comes back."""

    def __init__(
        self, connections: int, timeout_seconds: float, storage_options: Mapping[str, Any]
    ) -> None:
        import aiohttp
        import fsspec

        self._fs: Any = fsspec.filesystem("http", skip_instance_cache=True, **storage_options)
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds
        )
        self._broken = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
        self._final = (
            aiohttp.InvalidURL,
            aiohttp.ClientConnectorCertificateError,
            aiohttp.TooManyRedirects,
        )

    @asynccontextmanager
    async def ask(self, url: str, start: int, stop: int | None) -> AsyncIterator[Answer]:
        """See `Server.ask`."""
        from yarl import URL

        last = "" if stop is None else str(stop - 1)
        # compressed answers would have other offsets
        headers = {"Range": f"bytes={start}-{last}", "Accept-Encoding": "identity"}
        target = URL(quote(url, safe=":/?#[]@!$&'()*+,;=%~"), encoded=True)
        session = await self._fs.set_session()
        try:
            async with session.get(target, headers=headers, timeout=self._timeout) as response:
                try:
                    yield self._answer(response, start)
                finally:
                    # what was not read is not waited for
                    if not response.content.at_eof():
                        response.close()
        except self._final as error:
            raise RefusedError(_text(error)) from error
        except self._broken as error:
            raise BrokenError(_text(error)) from error

    def _answer(self, response: Any, start: int) -> Answer:
        status, headers = response.status, response.headers
        if status == 416:
            match = _UNSATISFIED.fullmatch(headers.get("Content-Range", ""))
            raise PastEndError(int(match[1]) if match else None)
        if status not in (200, 206):
            _raise_for_status(status, response.reason or "", headers.get("Retry-After"))
        if headers.get("Content-Encoding", "identity") != "identity":
            raise RefusedError(
                f"the answer is compressed ({headers['Content-Encoding']}), so its byte offsets "
                "are not the file's: switch that off for these files"
            )
        chunks = response.content.iter_any()
        etag, modified = _strong(headers.get("ETag")), headers.get("Last-Modified")
        if status == 200:
            length = headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
            return Answer(0, total, total, etag, modified, chunks)
        return _partial(headers.get("Content-Range", ""), etag, modified, chunks)


class S3Server:
    """`get_object` on s3fs' client, with the retries of s3fs and botocore switched off."""

    def __init__(
        self, connections: int, timeout_seconds: float, storage_options: Mapping[str, Any]
    ) -> None:
        import aiohttp
        import botocore.exceptions as s3
        import fsspec

        options = dict(storage_options)
        config = {
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "connect_timeout": timeout_seconds,
            "read_timeout": timeout_seconds,
            "max_pool_connections": connections,
        }
        options["config_kwargs"] = config | dict(options.get("config_kwargs", {}))
        self.fs: Any = fsspec.filesystem("s3", skip_instance_cache=True, **options)
        self._client_error = s3.ClientError
        self.broken = (
            s3.HTTPClientError,
            s3.ConnectionError,
            s3.IncompleteReadError,
            s3.ResponseStreamingError,
            aiohttp.ClientError,
            OSError,
            asyncio.TimeoutError,
        )
        self.final = s3.BotoCoreError

    @asynccontextmanager
    async def ask(self, url: str, start: int, stop: int | None) -> AsyncIterator[Answer]:
        """See `Server.ask`."""
        bucket, key, _ = self.fs.split_path(url)
        last = "" if stop is None else str(stop - 1)
        try:
            await self.fs.set_session()
            client = await self.fs.get_s3(bucket)
            answer = await client.get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{last}")
            body = answer["Body"]
            try:
                etag, modified = _strong(answer.get("ETag")), str(answer["LastModified"])
                chunks = body.iter_chunks(1 << 16)
                if "ContentRange" in answer:
                    yield _partial(answer["ContentRange"], etag, modified, chunks)
                else:
                    total = answer["ContentLength"]
                    yield Answer(0, total, total, etag, modified, chunks)
            finally:
                body.close()
        except self._client_error as error:
            about = error.response.get("ResponseMetadata", {})
            status = int(about.get("HTTPStatusCode", 0))
            if status == 416:
                size = str(error.response.get("Error", {}).get("ActualObjectSize", ""))
                raise PastEndError(int(size) if size.isdecimal() else None) from error
            retry_after = about.get("HTTPHeaders", {}).get("retry-after")
            code = str(error.response.get("Error", {}).get("Code", ""))
            _raise_for_status(status, code, retry_after)
        except self.broken as error:
            raise BrokenError(_text(error)) from error
        except self.final as error:
            raise RefusedError(_text(error)) from error


class _AnyFileSystem:
    """Any other protocol of fsspec: a range at a time; the first one says how long the file is."""

    def __init__(self, scheme: str, storage_options: Mapping[str, Any]) -> None:
        import fsspec

        self._fs: Any = fsspec.filesystem(scheme, **storage_options)

    @asynccontextmanager
    async def ask(self, url: str, start: int, stop: int | None) -> AsyncIterator[Answer]:
        """See `Server.ask`."""
        try:
            path = self._fs._strip_protocol(url)
            if self._fs.async_impl:
                data = await self._fs._cat_file(path, start=start, end=stop)
            else:
                data = await asyncio.to_thread(self._fs.cat_file, path, start=start, end=stop)
            total = await self._size(path) if start == 0 and stop is not None else None
        except FileNotFoundError as error:
            raise MissingError(_text(error)) from error
        except (PermissionError, NotImplementedError) as error:
            raise RefusedError(_text(error)) from error
        except (TimeoutError, OSError) as error:
            raise BrokenError(_text(error)) from error

        async def chunks() -> AsyncIterator[bytes]:
            yield data

        yield Answer(start, start + len(data), total, None, None, chunks())

    async def _size(self, path: str) -> int | None:
        if self._fs.async_impl:
            size = (await self._fs._info(path))["size"]
        else:
            size = (await asyncio.to_thread(self._fs.info, path))["size"]
        return None if size is None else int(size)


def _partial(
    content_range: str, etag: str | None, modified: str | None, chunks: AsyncIterator[bytes]
) -> Answer:
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    if match is None:
        raise BrokenError(f"the answer's Content-Range is {content_range!r}")
    first, last, total = match.groups()
    size = None if total == "*" else int(total)
    return Answer(int(first), int(last) + 1, size, etag, modified, chunks)


def _raise_for_status(status: int, reason: str, retry_after: str | None) -> None:
    cause = f"status {status} {reason}".rstrip()
    if status in _LATER:
        raise BrokenError(cause, _seconds(retry_after))
    raise (MissingError if status in _GONE else RefusedError)(cause)


def _seconds(retry_after: str | None) -> float:
    """Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    if retry_after is None:
        return 0.0
    if retry_after.strip().isdecimal():
        return float(retry_after)
    with contextlib.suppress(ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0


def _strong(etag: str | None) -> str | None:
    return etag if etag and not etag.startswith("W/") else None


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")
