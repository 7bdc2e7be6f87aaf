"""Ask an http(s) server, with requests of our own on fsspec's session: its own do not check.

Redirects are followed to http(s) only, and into a private network (or to this machine) only from a
URL that is in one itself: whoever runs a public server has no business with our neighbours, such as
the address 169.254.169.254, where clouds keep credentials. A name counts as the addresses that it
resolves to; behind a proxy, names that only the proxy resolves are the proxy's to judge.
"""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from shards.storage.answers import (
    Answer,
    BrokenError,
    RefusedError,
    brief,
    byte_count,
    error_text,
    partial_answer,
    past_end,
    refuse_status,
    strong_etag,
)


class HttpServer:
    """One way to ask; see `Server`."""

    piece_bytes = 0

    def __init__(
        self, connections: int, timeout_seconds: float, storage_options: Mapping[str, Any]
    ) -> None:
        import aiohttp
        import fsspec

        self._fs: Any = fsspec.filesystem("http", skip_instance_cache=True, **storage_options)
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds
        )
        self._redirects = aiohttp.TraceConfig()
        self._redirects.on_request_redirect.append(_check_redirect)
        self._redirects.freeze()
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
        session = await self._session()
        request = session.get(
            target, headers=headers, timeout=self._timeout, trace_request_ctx=target
        )
        try:
            async with request as response:
                try:
                    yield _answer(response)
                finally:
                    # what was not read is not waited for
                    if not response.content.at_eof():
                        response.close()
        except self._final as error:
            raise RefusedError(error_text(error)) from error
        except self._broken as error:
            raise BrokenError(error_text(error)) from error

    async def _session(self) -> Any:
        session = await self._fs.set_session()
        if self._redirects not in session.trace_configs:
            session.trace_configs.append(self._redirects)
        return session


def _answer(response: Any) -> Answer:
    status, headers = response.status, response.headers
    if status == 416:
        raise past_end(headers.get("Content-Range", ""))
    if status not in (200, 206):
        refuse_status(status, response.reason or "", headers.get("Retry-After"))
    if headers.get("Content-Encoding", "identity") != "identity":
        raise RefusedError(
            f"the answer is compressed ({brief(headers['Content-Encoding'])}), so its byte offsets "
            "are not the file's: switch that off for these files"
        )
    chunks = response.content.iter_any()
    etag, modified = strong_etag(headers.get("ETag")), headers.get("Last-Modified")
    if status == 200:
        total = byte_count(headers.get("Content-Length", ""))
        return Answer(0, total, total, etag, modified, chunks)
    return partial_answer(headers.get("Content-Range", ""), etag, modified, chunks)


async def _check_redirect(_session: Any, context: Any, redirect: Any) -> None:
    """Refuse to be sent where no server has to send anybody; called before it is followed."""
    first, headers = context.trace_request_ctx, redirect.response.headers
    try:
        target = redirect.url.join(type(first)(headers.get("Location") or headers.get("URI") or ""))
    except ValueError as error:
        raise RefusedError("it redirects to what is no URL") from error
    shown = brief(f"{target.scheme}://{target.host or ''}{target.path}")  # no secrets
    if target.scheme not in ("http", "https"):
        raise RefusedError(f"it redirects to {shown}; only http and https are followed")
    if target.host == first.host:
        return
    inside = [a for a in await _addresses(target) if is_inside(a)]
    origin = await _addresses(first) if inside else []
    if inside and not (origin and all(map(is_inside, origin))):
        raise RefusedError(
            f"it redirects to {shown}, which is in a private network ({inside[0]}); that is "
            "followed only from a URL in a private network. If it is meant, give that URL itself"
        )


async def _addresses(url: Any) -> list[str]:
    """What a URL's host resolves to; nothing where it does not."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            url.host, url.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        return []
    return [str(place[0]) for *_, place in found]


def is_inside(address: str) -> bool:
    """Whether an address is this machine's, a private network's, or otherwise not of the internet.

    IPv6 addresses that stand for one of IPv4 (mapped, NAT64, 6to4, Teredo) count as that one.
    """
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found in _NAT64:
            found = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        else:
            found = found.ipv4_mapped or found.sixtofour or (found.teredo or [found])[-1]
    return found.is_multicast or not found.is_global


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
