"""Readable json: one value, or a file of lines (`*.jsonl`), one value each, gzipped or not."""

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def json_bytes(content: object, indent: int | None = None) -> bytes:
    """One value in UTF-8, keys sorted; file names that are not UTF-8 come out escaped."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=indent)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, sort_keys=True, indent=indent).encode()


def third_party_json(text: str | bytes) -> Any:
    """A value that others wrote, where NaN and Infinity, which json does not have, mean null.

    Raises:
        ValueError: it is no json; or RecursionError, where it is too deep.
    """
    return json.loads(text, parse_constant=lambda _name: None)


def jsonl_bytes(lines: Iterable[dict[str, Any]]) -> bytes:
    """Lines of json."""
    return b"".join(json_bytes(line) + b"\n" for line in lines)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that `jsonl_bytes` made; gzipped, where its name says so."""
    with _opened(path) as file:
        for line in file:
            yield json.loads(line)


def jsonl_sha256(path: Path) -> str:
    """The digest of such a file's lines, whether they are gzipped or not."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> Any:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rb")
