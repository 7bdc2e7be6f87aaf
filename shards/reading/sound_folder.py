"""A folder of sounds as a data set, as it lies: the labelled collections of ESC-50 and DCASE2014.

    ESC-50/audio/1-100032-A-0.wav, meta/esc50.csv    label `category`, fold `fold`
    sounds/labels.csv                                columns file, label, and fold if there are some
    sounds/rain/one.flac                             label: the folder
    DCASE2014/bus01.wav                              label: the name without the last two digits

The first of these that is there says the labels; of ESC-50's files without their table the name
does (fold first, class last). Opening lists the folder; a sound is read whole when it is asked for.
"""

import csv
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from shards.errors import IndexFormatError, ShardError, SourceError
from shards.format.index import IndexedSample
from shards.reading.file_folder import FileFolder, files_of_kind, key_of

EXTENSIONS: Final = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff")
#: Fold, Freesound clip, take, class (Piczak 2015).
_ESC50_NAME: Final = re.compile(r"(?:^|/)(\d)-\d+-[A-Z]-(\d+)\.\w+$")
_DCASE_NAME: Final = re.compile(r"^([A-Za-z]+)\d\d\.\w+$")
#: Columns of tables → what they are here.
_COLUMNS: Final = {"file": "file", "filename": "file", "label": "label", "category": "label"}
_COLUMNS_KEPT: Final = ("label", "fold")


class SoundFolder(FileFolder):
    """The sounds below a folder, sorted by name, numbered through.

    Args:
        path: the folder, or a text file that names sounds below its own folder, one a line. Hidden
            files and folders are left out, links to folders followed.

    Raises:
        IndexFormatError: it cannot be listed, has no file named like a sound, a listed one is not
            there, or its table cannot be read.
    """

    KIND = "sound"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        sizes = dict(_listed(path) if path.is_file() else _below(path))
        super().__init__(path, sorted(sizes))
        self._folder = path.parent if path.is_file() else path
        if not sizes:
            raise IndexFormatError(
                f"{self.path} has no sounds: no file in it ends in {', '.join(EXTENSIONS)}."
            )
        self._rows = _rows_of(self._folder, self._names)
        digest = hashlib.sha256()
        for name in self._names:
            digest.update(os.fsencode(name) + b"\0%d\0" % sizes[name])
            digest.update(repr(sorted(self._rows[name].items())).encode())
        self.fingerprint = digest.hexdigest()[:32]

    def sample(self, i: int) -> IndexedSample:
        """Sound i, 0 ≤ i < len, under its name in the folder; its file is read."""
        name = self._name(i)
        key, shard = key_of(name), self._folder.name
        try:
            media = self._media(name)
        except SourceError as error:
            fault = str(error).removeprefix(f"{error.stage}: ")
            return IndexedSample(key, shard, {}, None, None, fault)
        sample: IndexedSample = media.sample(0)
        return replace(sample, key=key, shard=shard, video=None)  # a cover is no picture

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of the sound's file."""
        media = self._media_of(sample)
        data: bytes = media.read(sample, offset, size)
        if len(data) < size:
            raise ShardError(f"{media.path} is shorter than it was: it was changed.")
        return data

    def read_member(self, sample: IndexedSample, extension: str) -> bytes:
        """The whole file.

        Raises:
            ShardError: it is another member.
        """
        content: bytes = self._media_of(sample).read_member(sample, extension)
        return content

    def metadata(self, i: int) -> dict[str, Any]:
        """Its name as source; its label, and its fold, where they are known."""
        return {"source": self._name(i), **self._rows[self._name(i)]}

    def _media_of(self, sample: IndexedSample) -> Any:
        if getattr(self._in_hand, "key", None) == sample.key:
            return self._in_hand.media
        name = next(name for name in self._names if key_of(name) == sample.key)
        try:
            return self._media(name)
        except SourceError as error:
            raise ShardError(f"{self._folder / name}: {error}.") from error

    def _media(self, name: str) -> Any:
        from shards.reading.media_file import MediaFile  # libav, for who asks for a sound

        media = MediaFile.open(self._folder / name)
        self._in_hand.key, self._in_hand.media = key_of(name), media
        return media


def holds_sounds(path: Path) -> bool:
    """Whether there is a file named like a sound in a folder, or below it."""
    return next(_below(path), None) is not None


def is_esc50(path: Path) -> bool:
    """Whether a folder is ESC-50's own, which has a picture in it too."""
    return (path / "meta" / "esc50.csv").is_file()


def _below(folder: Path) -> Iterator[tuple[str, int]]:
    """Name below the folder, and bytes, of each file that is named like a sound."""
    return files_of_kind(folder, SoundFolder.KIND, lambda path: path.lower().endswith(EXTENSIONS))


def _listed(path: Path) -> Iterator[tuple[str, int]]:
    """The same of each file that a list names, from the list's own folder."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IndexFormatError(f"{path} cannot be read as a list of sounds: {error}.") from error
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        escapes = ".." in Path(name).parts or Path(name).is_absolute()
        is_sound = name.lower().endswith(EXTENSIONS) and (path.parent / name).is_file()
        if escapes or not is_sound:
            raise IndexFormatError(
                f"{path}:{number} has {name[:80]!r}; a list has a line for each sound, its path "
                "from the list's own folder, and below it."
            )
        yield name, (path.parent / name).stat().st_size


def _rows_of(folder: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """What is said of each sound: label, fold."""
    tables = (
        folder / "labels.csv",
        folder / "meta" / "esc50.csv",
        folder.parent / "meta" / "esc50.csv",
    )
    table = next((path for path in tables if path.is_file()), None)
    if table is not None:
        rows = _read_table(table)
        return {name: rows.get(name) or rows.get(name.rpartition("/")[2], {}) for name in names}
    if any("/" in name for name in names):
        return {name: {"label": name.partition("/")[0]} if "/" in name else {} for name in names}
    for layout, label in ((_ESC50_NAME, 2), (_DCASE_NAME, 1)):
        found = [layout.search(name) for name in names]
        if all(found):
            return {n: {"label": m[label]} for n, m in zip(names, found, strict=True) if m}
    return {name: {} for name in names}


def _read_table(path: Path) -> Mapping[str, dict[str, str]]:
    """File → label and fold, of a table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns = {name: _COLUMNS.get(name, name) for name in reader.fieldnames or ()}
            if not {"file", "label"} <= set(columns.values()):
                raise IndexFormatError(
                    f"{path} has the columns {', '.join(columns) or '(none)'}; it needs file and "
                    "label, and may have fold."
                )
            rows = [{columns[k]: v for k, v in row.items() if k in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IndexFormatError(f"{path} cannot be read as a table of labels: {error}.") from error
    return {row["file"]: {k: row[k] for k in _COLUMNS_KEPT if row.get(k)} for row in rows}
