"""List what a build is made of: folders and files, in one fixed order, with labels where given."""

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from shards.errors import BuildError
from shards.opening import Location


@dataclass(frozen=True)
class Source:
    """One file to make clips of; `name` is its path within what was given, with slashes.

    start_seconds, stop_seconds: the range to cut, on the source's clock; None is its end. listed:
    the list and line that name it ("clips.csv:3"), "" where no list does.
    """

    name: str
    location: Location
    row: dict[str, Any] = field(default_factory=dict)
    start_seconds: Fraction = Fraction(0)
    stop_seconds: Fraction | None = None
    listed: str = ""

    @property
    def range_text(self) -> str:
        """The range as keys see it; "" where it is the whole file."""
        if not self.start_seconds and self.stop_seconds is None:
            return ""
        return f"{self.start_seconds}:{self.stop_seconds or ''}"


def list_sources(given: Sequence[Path], leave_out: Sequence[Path] = ()) -> Iterator[Source]:
    """Every file under the given folders, and the given files, sorted within each folder.

    Hidden files and folders are left out. With one folder given, names are paths within it; with
    several sources, paths within the folder that holds them all, so that names are unique. Folders
    and files in `leave_out` (the target, the labels file) are no sources.

    Raises:
        BuildError: a source does not exist, is given twice, or lies inside another one.
    """
    roots = [_existing(p) for p in given]
    if not roots:
        raise BuildError("No source is given; name a folder of videos, or video files.")
    for i, a in enumerate(roots):
        for b in roots[:i]:
            if a == b or a in b.parents or b in a.parents:
                raise BuildError(f"Source {given[i]} is given twice (also within another source).")
    if len(roots) == 1:
        base = roots[0] if roots[0].is_dir() else roots[0].parent
    else:
        base = Path(os.path.commonpath([str(r.parent) for r in roots]))
    return _sources(sorted(roots), base, {path.resolve() for path in leave_out})


def _sources(roots: list[Path], base: Path, apart: AbstractSet[Path]) -> Iterator[Source]:
    for root in roots:
        for path in _walk(root, apart) if root.is_dir() else [root]:
            yield Source(path.relative_to(base).as_posix(), Location(str(path)))


def _existing(path: Path) -> Path:
    if not path.exists():
        raise BuildError(f"Source {path} does not exist; check the path.")
    return path.resolve()


def _walk(folder: Path, apart: AbstractSet[Path]) -> Iterator[Path]:
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda e: e.name)
    for entry in entries:
        if entry.name.startswith(".") or Path(entry.path) in apart:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), apart)
        elif entry.is_file():
            yield Path(entry.path)


class Labels:
    """What a labels file says: a CSV with the columns file and label, and any others.

    A row's file is a source's name (path within the source folder) or, where no row has that, its
    path from the labels file's own folder, or its file name alone. Other columns go into the
    sample's metadata; caption is kept as such.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, dict[str, Any]] = {}
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(f"Labels file {path} cannot be read: {error}.") from error
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or []
        if "file" not in columns or "label" not in columns:
            raise BuildError(
                f"Labels file {path} has the columns {', '.join(columns) or '(none)'}; it "
                "needs file and label, and may have caption and any others."
            )
        for line in reader:
            name = line.pop("file")
            if name in self._rows:
                raise BuildError(f"Labels file {path} names {name!r} twice.")
            self._rows[name] = _row(line)
        self._used: set[str] = set()

    def of(self, source: Source) -> dict[str, Any]:
        """The row of a source; empty where there is none."""
        path = Path(source.location.path)
        for name in (source.name, self._from_own_folder(path), path.name):
            if name in self._rows:
                self._used.add(name)
                return self._rows[name]
        return {}

    def _from_own_folder(self, path: Path) -> str:
        folder, path = self._path.resolve().parent, path.resolve()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else ""

    def unused(self) -> list[str]:
        """Rows that no source matched."""
        return [name for name in self._rows if name not in self._used]


def _row(line: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name in ("label", "caption"):
        value = line.pop(name, None)
        if value:
            row[name] = value
    others = {k: v for k, v in line.items() if k is not None and v}
    if others:
        row["metadata"] = others
    return row


def with_labels(sources: Iterable[Source], labels: Labels | None) -> Iterator[Source]:
    """The same sources, each with its row."""
    for source in sources:
        yield source if labels is None else replace(source, row=labels.of(source))
