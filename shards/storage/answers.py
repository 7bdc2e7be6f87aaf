"""What a server may answer to one request: bytes of a file, or one of four ways to refuse them.

A server's words are strangers' words: numbers are read up to 18 digits, texts are cut short.
"""

import contextlib
import email.utils
import re
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NoReturn, Protocol

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")
_UNSATISFIED = re.compile(r"bytes \*/([0-9]{1,18})")
_NUMBER = re.compile(r"[0-9]{1,18}")
_MAX_QUOTED = 120  # characters of a server's own that a message repeats
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
    """One way to ask.

    Attributes:
        piece_bytes: how many bytes may come at once without a sign of them before; 0 for streams.
    """

    piece_bytes: int

    def ask(self, url: str, start: int, stop: int | None) -> AbstractAsyncContextManager[Answer]:
        """Ask for bytes [start, stop) of a file, or all from start on where stop is None.

        Raises:
            BrokenError: try again.
            RefusedError: do not.
            PastEndError: the file is shorter.
        """


def partial_answer(
    content_range: str, etag: str | None, modified: str | None, chunks: AsyncIterator[bytes]
) -> Answer:
    """The answer that comes under a Content-Range.

    Raises:
        BrokenError: the header says nothing, or what cannot be.
    """
    match = _CONTENT_RANGE.fullmatch(content_range.strip())
    start, last, total = (byte_count(text) for text in match.groups()) if match else (None,) * 3
    if start is None or last is None or not start <= last < (total or 1 << 62):
        raise BrokenError(f"the answer's Content-Range is {brief(content_range)!r}")
    return Answer(start, last + 1, total, etag, modified, chunks)


def past_end(content_range: str) -> PastEndError:
    """What a 416 says."""
    match = _UNSATISFIED.fullmatch(content_range.strip())
    return PastEndError(int(match[1]) if match else None)


def refuse_status(status: int, reason: str, retry_after: str | None) -> NoReturn:
    """Raise what an answer of this status is."""
    cause = f"status {status} {brief(reason)}".rstrip()
    if status in _LATER:
        raise BrokenError(cause, _seconds(retry_after or ""))
    raise (MissingError if status in _GONE else RefusedError)(cause)


def byte_count(text: str) -> int | None:
    """A count of bytes; None where that is not what it says."""
    return int(text) if _NUMBER.fullmatch(text) else None


def strong_etag(etag: str | None) -> str | None:
    """An ETag that stands for the exact bytes."""
    return etag if etag and not etag.startswith("W/") else None


def brief(text: str) -> str:
    """A server's own text, as much of it as a message repeats."""
    return text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}… ({len(text)} characters)"


def error_text(error: BaseException) -> str:
    """An error of a library, as a message repeats it."""
    return brief(f"{type(error).__name__}: {error}".rstrip(": "))


def _seconds(retry_after: str) -> float:
    """Retry-After (RFC 9110, 10.2.3): seconds, or a date."""
    if (seconds := byte_count(retry_after.strip())) is not None:
        return float(seconds)
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    return 0.0
