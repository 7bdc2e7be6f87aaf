"""Lists as sources: a CSV, TSV, JSONL or Parquet file that names videos, and ranges of them.

    path,start,stop,label,speaker
    talks/one.mp4,10,490,talk,Ada
    talks/one.mp4,520,,applause,
    /archive/two.mkv,,,talk,Grace

Columns: `path` (from the list's own folder, or absolute, or a URL), or else `url`; optional `start`
and `stop`, in seconds (or h:mm:ss) from the source's first frame, the range [start, stop) that
clips are cut from (from the beginning and to the end where empty), or `clips`, several of them:
[[start, stop], …]; optional `label`, `labels` (several: a list, or a text with `;` between them in
a table) and `caption`; all others go into the sample's metadata. What others call these columns is
understood too (list_columns.py).
One file may have many rows, with ranges of their own: the range is part of the keys.
Ranges may overlap; with a holdout by time each row is split by itself, so overlapping rows put the
same seconds on both sides (`split_by="source"` keeps all rows of a file on one side).

The whole list is checked before anything is built (8 bytes of memory for a row). A row whose file
is missing, or whose range begins after its end, is a counted skip; a range that goes on after the
source's end is cut there, and the clips it loses are counted.
"""

import csv
import hashlib
import math
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np

from shards.errors import BuildError, SourceError
from shards.format.json_text import exact_json
from shards.media.container import SNIFF_BYTES, sniff
from shards.media.limits import MAX_HOURS
from shards.sources.list_columns import ListColumns, meanings
from shards.sources.source import Source, row_of, split_labels
from shards.storage.local_files import open_regular
from shards.storage.opening import Location
from shards.storage.text_files import TextLines
from shards.storage.urls import folder_or_url, is_url, public

MAX_SECONDS = MAX_HOURS * 3600

_Line = tuple[int, dict[str, Any]]  # number of the line (or row) in the file, its fields


def is_called_like_a_list(name: str) -> bool:
    """Whether a name or URL ends as a list's does."""
    return name.lower().partition("?")[0].endswith(tuple(_READERS))


def is_list(path: Path) -> bool:
    """Whether a source is a list: by its suffix, unless its first bytes are media's."""
    if not (is_called_like_a_list(path.name) and path.is_file()):
        return False
    try:
        with open_regular(path) as file:
            sniff(file.read(SNIFF_BYTES))
    except SourceError:
        return True
    return False


def read_lists(lists: Sequence[Path], notes: list[str] | None = None) -> Iterator[Source]:
    """The rows of the lists in their order, each a source.

    A source's name is its file's path from the list's folder (from the folder that holds all lists,
    where there are several), or its absolute path where it lies elsewhere. `notes` is told what has
    to be said of their columns (see list_columns.py).

    Raises:
        BuildError: a list is damaged, and in which line; or it names one file and range twice.
    """
    base = f"{os.path.commonpath([path.resolve().parent for path in lists]).rstrip('/')}/"
    seen = array("Q")
    for path in lists:
        before, columns = len(seen), ListColumns(path.name)
        seen.extend(_identity_hash(source) for source in _rows(path, base, columns))
        if notes is not None:
            notes += columns.notes
        if len(seen) == before:
            raise BuildError(f"List {path} has no rows; it needs one for each video.")
    _refuse_twins(lists, base, seen)
    return (source for path in lists for source in _rows(path, base))


def _identity(source: Source) -> tuple[str, str]:
    return source.name, source.range_text


def _identity_hash(source: Source) -> int:
    text = "\0".join(_identity(source)).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _refuse_twins(lists: Sequence[Path], base: str, seen: "array[int]") -> None:
    """Refuse a file and range that is named twice; hashes first, so that memory stays small."""
    hashes = np.sort(np.frombuffer(seen, np.uint64))
    suspects = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not suspects:
        return
    first: dict[tuple[str, str], str] = {}
    for path in lists:
        for source in _rows(path, base):
            if _identity_hash(source) not in suspects:
                continue
            twin = first.setdefault(_identity(source), source.listed)
            if twin != source.listed:
                raise BuildError(
                    f"{source.listed} names {source.name!r} with the same range as {twin}, so "
                    "their clips would be the same; keep one of the two."
                )


def _rows(path: Path, base: str, columns: ListColumns | None = None) -> Iterator[Source]:
    """One pass over a list."""
    folder = str(path.resolve().parent)
    columns = columns or ListColumns(path.name)
    try:
        for line, fields in _READERS[path.suffix.lower()](path):
            where = f"{path.name}:{line}"
            fields = columns.renamed(fields)
            fields = split_labels(fields) if path.suffix.lower() in _TABLES else fields
            for row in _with_ranges(fields, where):
                yield _source(row, folder, base, where)
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"List {path} cannot be read: {error}.") from error


def _text_file(path: Path) -> TextIO:
    return TextLines(path)


def _csv_lines(path: Path) -> Iterator[_Line]:
    with _text_file(path) as file:
        yield from _table_lines(path, file, ",")


def _tsv_lines(path: Path) -> Iterator[_Line]:
    with _text_file(path) as file:
        yield from _table_lines(path, file, "\t")


def _table_lines(path: Path, file: TextIO, delimiter: str) -> Iterator[_Line]:
    blanks = f"{delimiter} " in file.readline()  # after the commas of the first line: of all lines
    file.seek(0)
    reader = csv.DictReader(file, delimiter=delimiter, strict=True, skipinitialspace=blanks)
    try:
        columns = reader.fieldnames or []
        check_columns(path, columns)
        for fields in reader:
            if None in fields:
                _wrong(f"{path.name}:{reader.line_num}", "more fields than the first line names")
            yield reader.line_num, {name: text for name, text in fields.items() if text}
    except csv.Error as error:
        raise BuildError(
            f"{path.name}:{reader.line_num} is not a row of a table: {error}."
        ) from error


def check_columns(path: Path, columns: Sequence[str]) -> None:
    """Refuse a table that does not name videos.

    Raises:
        BuildError: a column is missing, or there twice.
    """
    names = set(meanings(columns).values())
    if not {"path", "url"} & names or len(names) < len(columns):
        raise BuildError(
            f"List {path} has the columns {', '.join(columns) or '(none)'}; it needs path (or url),"
            " may have start, stop, clips, label, labels, caption and any others, each once. The "
            "first line names them."
        )


def _json_lines(path: Path) -> Iterator[_Line]:
    with _text_file(path) as file:
        for number, text in enumerate(file, start=1):
            if text.strip():
                yield number, _json_line(text.strip(), f"{path.name}:{number}")


def _json_line(text: str, where: str) -> dict[str, Any]:
    try:
        fields = exact_json(text)
    except ValueError as error:
        raise BuildError(f"{where} is not a line of json ({error}); write one object.") from error
    if not isinstance(fields, dict) or not {"path", "url"} & {*meanings(tuple(fields)).values()}:
        _wrong(where, f"{text[:60]!r}, which is not an object with a path")
    return fields


def _parquet_lines(path: Path) -> Iterator[_Line]:
    from shards.sources.parquet import parquet_rows

    return parquet_rows(path, check_columns)


_READERS: dict[str, Callable[[Path], Iterator[_Line]]] = {
    ".csv": _csv_lines,
    ".tsv": _tsv_lines,
    ".jsonl": _json_lines,
    ".parquet": _parquet_lines,
}


def _with_ranges(fields: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """A row for each of its clips: pairs of start and stop, or their json; itself without any."""
    if "clips" not in fields or fields["clips"] is None:
        yield fields
        return
    clips = fields.pop("clips")
    if isinstance(clips, str):
        try:
            clips = exact_json(clips)
        except ValueError:
            _wrong(where, f"the clips {clips[:60]!r}, which are not json; write [[start, stop], …]")
    pairs = isinstance(clips, list) and clips and all(_is_pair(clip) for clip in clips)
    if not pairs or {"start", "stop"} & fields.keys():
        _wrong(
            where, f"the clips {str(clips)[:60]}; write [[start, stop], …], and no start and stop"
        )
    for start, stop in clips:
        yield fields | {"start": start, "stop": stop}


def _is_pair(clip: Any) -> bool:
    return isinstance(clip, list | tuple) and len(clip) == 2


_TABLES = (".csv", ".tsv")


def _source(fields: dict[str, Any], folder: str, base: str, where: str) -> Source:
    fields = {name: value for name, value in fields.items() if value not in (None, "")}
    column = "path" if "path" in fields else "url"
    given = fields.pop(column, None)
    if not isinstance(given, str) or "\0" in given:
        _wrong(where, f"the path {given!r}; write a file's path, or a URL")
    if column == "url" and not is_url(given):
        _wrong(where, f"the url {given!r}; write a URL with its protocol, or name a path")
    start = _seconds(fields, "start", where) or Fraction(0)
    stop = _seconds(fields, "stop", where)
    if stop is not None and start >= stop:
        _wrong(where, f"start {float(start):g} and stop {float(stop):g}; start must come first")
    try:
        row = row_of(fields)
    except ValueError as error:
        _wrong(where, str(error))
    if given.startswith("file://"):
        given = str(folder_or_url(given))
    if is_url(given):
        return Source(public(given), Location(given), row, start, stop, where)
    path = os.path.join(folder, given)  # noqa: PTH118 - a list may have millions of rows
    plain = os.path.normpath(path)
    return Source(plain.removeprefix(base), Location(path), row, start, stop, where)


def _seconds(fields: dict[str, Any], name: str, where: str) -> Fraction | None:
    """A time as the exact decimal that was written; None where there is none."""
    value = fields.pop(name, None)
    if value is None:
        return None
    try:
        number = _number(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= MAX_SECONDS:  # not a number is not
        allowed = f"seconds from 0 to {MAX_SECONDS} ({MAX_HOURS} h), such as 12.5 or 0:01:12.5"
        _wrong(where, f"the {name} {value!r}; allowed: {allowed}")
    return Fraction(repr(number))


def _number(value: Any) -> float:
    """Seconds, also written as minutes or hours: 1:12.5 is 72.5."""
    if isinstance(value, bool):
        raise ValueError
    parts = value.strip().split(":") if isinstance(value, str) else [value]
    if len(parts) > 3 or any(not 0 <= float(part) < 60 for part in parts[1:]):
        raise ValueError
    return float(sum(float(part) * 60**n for n, part in enumerate(reversed(parts))))


def _wrong(where: str, what: str) -> NoReturn:
    raise BuildError(f"{where} has {what}. Correct the list, then run the same command again.")
