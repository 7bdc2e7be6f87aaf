"""Split files of data sets of actions: which of a folder's videos to take, and Kinetics' labels.

    UCF-101     trainlist01.txt               ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1
    HMDB-51     *_test_split1.txt             a_video.avi 1        1: train, 2: test, 0: neither
    Kinetics    train.csv                     label,youtube_id,time_start,time_end,split

A video is named by its file name without extension; Kinetics' by its id, alone or with its times
as the usual downloaders write them: `-3B32lodo2M_000059_000069`.
"""

import csv
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from shards.errors import BuildError
from shards.sources.source import Source
from shards.storage.text_files import TextLines

_HMDB_PARTS = {"1": "train", "2": "test", "0": "neither"}
_KINETICS = {"youtube_id", "time_start", "time_end"}
MAX_NAMED = 5


class SplitFiles:
    """The videos that split files name.

    Args:
        paths: the files; HMDB-51 has one for each action.
        part: train, test or another that the files name; None where each is one part (UCF-101).

    Raises:
        BuildError: a file cannot be read, is of another form, or names no video of the part.
    """

    def __init__(self, paths: Sequence[Path], part: str | None = None) -> None:
        self._part = part
        self._labels: dict[str, str] = {}  # stem → label, "" where the file says none
        self._aliases: dict[str, str] = {}  # other stems of the same video
        self._used: set[str] = set()
        for path in paths:
            try:
                with TextLines(path) as file:
                    self._read(path, file)
            except (OSError, UnicodeDecodeError, csv.Error) as error:
                raise BuildError(f"Split file {path} cannot be read: {error}.") from error
        if not self._labels:
            of_part = f" of the part {part!r}" if part is not None else ""
            raise BuildError(f"Split file {paths[0]} names no video{of_part}; check --split-part.")

    def _read(self, path: Path, file: Iterable[str]) -> None:
        lines = iter(file)
        first = next(lines, "")
        columns = {name.strip() for name in first.split(",")}
        if columns >= _KINETICS:
            rows = csv.DictReader([first.strip(), *lines], skipinitialspace=True)
            for row in rows:
                try:
                    self._read_kinetics(row)
                except (TypeError, ValueError, OverflowError) as error:  # None where cells lack
                    has = ", ".join(map(str, row.values()))[:60]
                    raise BuildError(
                        f"{path.name}:{rows.line_num} has {has!r}; a row of Kinetics has "
                        f"{', '.join(sorted(_KINETICS))}, times in seconds."
                    ) from error
            return
        for number, line in enumerate([first, *lines], start=1):
            if line.strip():
                self._read_line(line.strip(), f"{path.name}:{number}")

    def _read_line(self, line: str, where: str) -> None:
        name, _, mark = line.rpartition(" ")
        if not name or not mark.isdigit():
            name, mark = line, ""
        if Path(name).suffix == "":
            raise BuildError(
                f"{where} has {line[:60]!r}; a split file is of UCF-101 (Class/name.avi 1), "
                "HMDB-51 (name.avi 1) or Kinetics (label,youtube_id,time_start,time_end,split)."
            )
        is_hmdb = "/" not in name and mark in _HMDB_PARTS
        if is_hmdb and self._part is None:
            raise BuildError(f"{where} tells train from test; say which with --split-part.")
        if is_hmdb and _HMDB_PARTS[mark] != self._part:
            return
        if not is_hmdb and self._part is not None:
            raise BuildError(f"{where} names no parts; give the file of one, without --split-part.")
        self._labels[_stem(name)] = ""

    def _read_kinetics(self, row: dict[str, str]) -> None:
        if self._part is not None and row.get("split") != self._part:
            return
        name = row["youtube_id"]
        start, end = (round(float(row[column])) for column in ("time_start", "time_end"))
        stem = f"{name}_{start:06d}_{end:06d}"
        self._labels[stem] = row.get("label") or ""
        self._aliases[f"{name}_{start}_{end}"] = self._aliases[name] = stem

    def take(self, sources: Iterable[Source]) -> Iterator[Source]:
        """The sources that are named, with their label where the file says it.

        Raises:
            BuildError: at the end, when none was.
        """
        for source in sources:
            stem = _stem(source.name)
            stem = stem if stem in self._labels else self._aliases.get(stem, "")
            if stem not in self._labels:
                continue
            self._used.add(stem)
            label = self._labels[stem]
            yield replace(source, row={**source.row, "label": label}) if label else source
        if not self._used:
            raise BuildError(f"No source is a video of the split: {self.note()}. Check both.")

    def note(self) -> str:
        """What to say of those that no source is; "" where all are there."""
        missing = [stem for stem in self._labels if stem not in self._used]
        if not missing:
            return ""
        more = ", …" if len(missing) > MAX_NAMED else ""
        named = ", ".join(missing[:MAX_NAMED])
        return (
            f"{len(missing)} of {len(self._labels)} videos of the split are not here: {named}{more}"
        )


def _stem(name: str) -> str:
    last = name.rsplit("/", 1)[-1]
    return unicodedata.normalize("NFC", last.rpartition(".")[0] or last)
