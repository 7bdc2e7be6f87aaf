"""URLs among paths: which is which, and what of a URL may be shown."""

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SECRET = re.compile(
    r"(x-(amz|goog)-[a-z-]+|signature|sig|token|expires|policy|key-pair-id|awsaccesskeyid)=", re.I
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(path: str) -> bool:
    """Whether this is a URL of some protocol, and not a path."""
    return _URL.match(path) is not None


def folder_or_url(given: str | os.PathLike[str]) -> Path | str:
    """A path, also where it is written as file:///…; or else the URL."""
    text = os.fspath(given)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return text if is_url(text) else Path(text)


def public(url: str) -> str:
    """A URL without the user, password and signature in it, for messages and names."""
    plain = re.sub(r"//[^/@]*@", "//", url)
    address, mark, query = plain.partition("?")
    kept = [part for part in query.split("&") if mark and not _SECRET.match(part)]
    return f"{address}?{'&'.join(kept)}" if any(kept) else address
