"""Labels for the files of a folder: a CSV with the columns file and label, or the folder's own.

The table is put into a database in a temporary file, so that memory does not grow with it.
"""

import csv
import json
import os
import sqlite3
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from shards.errors import BuildError
from shards.sources.source import Source, row_of, split_labels
from shards.storage.text_files import TextLines
from shards.storage.urls import is_url

MAX_NAMED = 5
FOLDERS = "folders"  # in the place of a labels file


class Labels:
    """What a labels file says of sources.

    A row's file is a source's name (path within the source folder) or, where no row has that, its
    path from the labels file's own folder, or its file name alone; letters with marks may be one
    character or two (Unicode NFC or NFD). Other columns go into the sample's metadata; caption is
    kept as such, and `labels` may name several, apart by `;`.

    Raises:
        BuildError: the file cannot be read, lacks a column, or names a file twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = tempfile.NamedTemporaryFile(prefix="gdt-labels-")  # noqa: SIM115 - as long as self
        self._table = sqlite3.connect(self._file.name, isolation_level=None)
        # the file is dropped after a crash in any case
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("PRAGMA synchronous = OFF")
        self._table.execute(
            "CREATE TABLE labels (file BLOB PRIMARY KEY, row TEXT, used INTEGER) WITHOUT ROWID"
        )
        try:
            with TextLines(path) as file:
                self._table.executemany("INSERT INTO labels VALUES (?, ?, 0)", self._rows(file))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise BuildError(f"Labels file {path} cannot be read: {error}.") from error
        except sqlite3.IntegrityError as error:
            raise BuildError(f"Labels file {path} names {self._last!r} twice.") from error

    def _rows(self, file: Iterable[str]) -> Iterator[tuple[bytes, str]]:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        if "file" not in columns or not {"label", "labels"} & set(columns):
            raise BuildError(
                f"Labels file {self._path} has the columns {', '.join(columns) or '(none)'}; it "
                "needs file and label, and may have labels, caption and any others."
            )
        for line in reader:
            self._last = line.pop("file") or ""  # a row may end before it
            fields = {name: value for name, value in line.items() if name is not None}
            yield _blob(self._last), json.dumps(row_of(split_labels(fields)))

    def of(self, source: Source) -> dict[str, Any]:
        """The row of a source; empty where there is none."""
        name = source.location.path
        names = [source.name, name.rsplit("/", 1)[-1]]
        if not is_url(name):
            names.insert(1, self._from_own_folder(Path(name)))
        for name in names:
            found = self._table.execute("SELECT row FROM labels WHERE file = ?", [_blob(name)])
            row = found.fetchone()
            if row is not None:
                self._table.execute("UPDATE labels SET used = 1 WHERE file = ?", [_blob(name)])
                return dict(json.loads(row[0]))
        return {}

    def _from_own_folder(self, path: Path) -> str:
        folder, path = self._path.resolve().parent, path.resolve()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""

    def without_source(self) -> tuple[int, list[str]]:
        """How many rows no source matched, and the first of them.

        A row whose file lies in the labels file's own folder is not among them: one table often
        labels all splits of a corpus, and a build takes one.
        """
        number, first = 0, []
        folder = self._path.resolve().parent
        for (blob,) in self._table.execute("SELECT file FROM labels WHERE NOT used"):
            name = bytes(blob).decode(errors="surrogateescape")
            if not os.path.isfile(folder / name):  # noqa: PTH113 - a name may be too long for a path
                number += 1
                first += [name] if number <= MAX_NAMED else []
        return number, first


def _blob(name: str) -> bytes:
    name = unicodedata.normalize("NFC", name)  # macOS writes names apart, and most others together
    return name.encode(errors="surrogateescape")  # names on a disk need not be text


class FolderLabels:
    """Labels by folder: that in which a source lies, the first below what was given."""

    def of(self, source: Source) -> dict[str, Any]:
        """The row of a source; empty where it lies in no folder, or in a tar."""
        folder, slash, _ = source.name.partition("/")
        in_folder = slash and source.location.size is None and not is_url(source.name)
        return {"label": folder} if in_folder else {}

    def without_source(self) -> tuple[int, list[str]]:
        """None: folders name nothing that is not there."""
        return 0, []


def with_labels(
    sources: Iterable[Source], labels: Labels | FolderLabels | None
) -> Iterator[Source]:
    """The same sources, each with its row; what the table says goes before what a tar says."""
    for source in sources:
        row = labels.of(source) if labels is not None else {}
        yield replace(source, row={**source.row, **row}) if row else source
