"""What speaks to which URL: http(s), S3, or whatever else fsspec knows. Each asks once for a range.

It says what came, without judging it: `Answer` tells which bytes follow and what the server knows
of the file. What is worth another attempt is `BrokenError`, what is not `RefusedError`
(transfer.py decides, and counts). All run on fsspec's event loop.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from shards.errors import RemoteError
from shards.storage.answers import (
    Answer,
    BrokenError,
    MissingError,
    PastEndError,
    RefusedError,
    Server,
    byte_count,
    error_text,
    partial_answer,
    refuse_status,
    strong_etag,
)
from shards.storage.http_server import HttpServer


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
            return HttpServer(connections, timeout_seconds, storage_options)
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


class S3Server:
    """`get_object` on s3fs' client, with the retries of s3fs and botocore switched off."""

    piece_bytes = 0

    def __init__(
        self, connections: int, timeout_seconds: float, storage_options: Mapping[str, Any]
    ) -> None:
        import aiohttp
        import botocore.exceptions as s3
        import fsspec
        from botocore.parsers import ResponseParserError

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
        self._senseless = (ResponseParserError, ValueError, KeyError)

    @asynccontextmanager
    async def ask(self, url: str, start: int, stop: int | None) -> AsyncIterator[Answer]:
        """See `Server.ask`."""
        bucket, key, _ = self.fs.split_path(url)
        last = "" if stop is None else str(stop - 1)
        try:
            await self.fs.set_session()
            client = await self.fs.get_s3(bucket)
            try:
                answer = await client.get_object(
                    Bucket=bucket, Key=key, Range=f"bytes={start}-{last}"
                )
            except self._senseless as error:
                raise BrokenError(f"an answer that is not S3's: {error_text(error)}") from error
            body = answer["Body"]
            try:
                etag, modified = strong_etag(answer.get("ETag")), str(answer.get("LastModified"))
                chunks = body.iter_chunks(1 << 16)
                if "ContentRange" in answer:
                    yield partial_answer(answer["ContentRange"], etag, modified, chunks)
                else:
                    total = answer.get("ContentLength")
                    yield Answer(0, total, total, etag, modified, chunks)
            finally:
                body.close()
        except self._client_error as error:
            about = error.response.get("ResponseMetadata", {})
            status = int(about.get("HTTPStatusCode", 0))
            if status == 416:
                size = str(error.response.get("Error", {}).get("ActualObjectSize", ""))
                raise PastEndError(byte_count(size)) from error
            retry_after = about.get("HTTPHeaders", {}).get("retry-after")
            code = str(error.response.get("Error", {}).get("Code", ""))
            refuse_status(status, code, retry_after)
        except self.broken as error:
            raise BrokenError(error_text(error)) from error
        except self.final as error:
            raise RefusedError(error_text(error)) from error


class _AnyFileSystem:
    """Any other protocol of fsspec: a piece at a time; the first one says how long the file is."""

    piece_bytes = 1 << 20

    def __init__(self, scheme: str, storage_options: Mapping[str, Any]) -> None:
        import fsspec

        self._fs: Any = fsspec.filesystem(scheme, **storage_options)

    @asynccontextmanager
    async def ask(self, url: str, start: int, stop: int | None) -> AsyncIterator[Answer]:
        """See `Server.ask`."""
        path = self._fs._strip_protocol(url)
        with _asked():
            first = await self._piece(path, start, stop)
            total = await self._size(path) if start == 0 and stop is not None else None

        async def chunks() -> AsyncIterator[bytes]:
            at, data = start, first
            while data:
                yield data
                at += len(data)
                if at == stop or len(data) < self.piece_bytes:
                    return
                with _asked():
                    data = await self._piece(path, at, stop)

        yield Answer(start, None, total, None, None, chunks())

    async def _piece(self, path: str, start: int, stop: int | None) -> bytes:
        end = start + self.piece_bytes if stop is None else min(stop, start + self.piece_bytes)
        if self._fs.async_impl:
            return bytes(await self._fs._cat_file(path, start=start, end=end))
        return bytes(await asyncio.to_thread(self._fs.cat_file, path, start=start, end=end))

    async def _size(self, path: str) -> int | None:
        if self._fs.async_impl:
            size = (await self._fs._info(path))["size"]
        else:
            size = (await asyncio.to_thread(self._fs.info, path))["size"]
        return None if size is None else int(size)


@contextmanager
def _asked() -> Iterator[None]:
    """What a file system raises, as what it means."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingError(error_text(error)) from error
    except (PermissionError, NotImplementedError) as error:
        raise RefusedError(error_text(error)) from error
    except (TimeoutError, OSError) as error:
        raise BrokenError(error_text(error)) from error
