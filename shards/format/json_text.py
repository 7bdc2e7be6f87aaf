"""Readable json: one value, or a file of lines (`*.jsonl`), one value each, gzipped or not."""

import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn


def json_bytes(content: object, indent: int | None = None) -> bytes:
    """One value in UTF-8, keys sorted; file names that are not UTF-8 come out escaped."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, indent=indent)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, sort_keys=True, indent=indent).encode()


def plain_json(text: str | bytes, **options: Any) -> Any:
    """A value that this program wrote; `options` are of `json.loads`.

    Raises:
        ValueError: it is no json, or is nested too deep.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def third_party_json(text: str | bytes) -> Any:
    """A value that others wrote: numbers that json does not have mean null, and texts are whole.

    Such numbers are NaN, Infinity and what is too large for a float; for texts see `whole_text`.

    Raises:
        ValueError: it is no json, or is nested too deep.
    """
    found = plain_json(text, parse_constant=lambda _name: None, parse_float=_finite)
    try:
        return whole_text(found)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def whole_text(value: Any) -> Any:
    """A json value in which a half of a surrogate pair, which is no text, is written out."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [whole_text(item) for item in value]
    if isinstance(value, dict):
        return {whole_text(name): whole_text(item) for name, item in value.items()}
    return value


def exact_json(text: str) -> Any:
    """A value that somebody wrote for us.

    Raises:
        ValueError: it is no json, has numbers that are none, or is nested too deep.
    """
    return plain_json(text, parse_constant=_no_number, parse_float=_number)


def _finite(digits: str) -> float | None:
    return number if math.isfinite(number := float(digits)) else None


def _number(digits: str) -> float:
    number = _finite(digits)
    return _no_number(digits) if number is None else number


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in json")


def jsonl_bytes(lines: Iterable[dict[str, Any]]) -> bytes:
    """Lines of json."""
    return b"".join(json_bytes(line) + b"\n" for line in lines)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file that `jsonl_bytes` made; gzipped, where its name says so."""
    with _opened(path) as file:
        for line in file:
            yield plain_json(line)


def jsonl_sha256(path: Path) -> str:
    """The digest of such a file's lines, whether they are gzipped or not."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> Any:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rb")
