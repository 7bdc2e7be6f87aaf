"""What the columns of a list are called, and what those that others write are taken for.

Lists come from many tools: names in capitals or with blanks, `end` for `stop`, video2dataset's
`clips`. The usual ones are understood, and it is said which; a name that looks like a time and is
none of them is warned of, for without it the whole video would be taken.
"""

import difflib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import product
from typing import Any

MAX_NOTES = 20  # of a list in which every row has columns of its own
COLUMNS = ("path", "url", "start", "stop", "clips", "label", "labels", "caption")

_STARTS, _STOPS = ("start", "begin", "onset"), ("stop", "end")
_UNITS = ("time", "second", "seconds", "sec", "secs", "s")
_ABOUT = ("clip", "segment", "t", "time")


def _times(words: Sequence[str]) -> tuple[str, ...]:
    """Names of a time: the words, with a unit after or what they are of before them."""
    after = (f"{word}_{unit}" for word, unit in product(words, _UNITS))
    before = (f"{about}_{word}" for word, about in product(words, _ABOUT))
    return (*words[1:], *after, *before)


#: Name of ours → those that are taken for it where it is absent, the first of them that is there.
_OTHERS: Mapping[str, Sequence[str]] = {
    "path": (
        *("file", "filename", "file_name", "filepath", "file_path"),
        *("video", "video_path", "videopath", "video_file", "media_path"),
    ),
    "url": ("video_url", "videourl", "media_url", "link", "contenturl"),
    "start": _times(_STARTS),
    "stop": _times(_STOPS),
}
_TIME_WORDS = {*_STARTS, *_STOPS, "from", "to", "until", "till", "since", "finish", "offset"}
_TIME_WORDS |= {"duration", "length", "timestamp", "timestamps", "interval", "intervals", "range"}
_TIME_WORDS |= {"ranges", "segment", "segments", "clip", "starts", "stops", "ends", "seconds"}


class ListColumns:
    """Gives the fields of rows our names; `notes` are what has to be said of a list's columns."""

    def __init__(self, name: str) -> None:
        self.notes: list[str] = []
        self._name = name

    def renamed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """A row's fields under our names."""
        names, notes = _meanings(tuple(fields))
        for note in notes:
            said = f"{self._name}: {note}"
            if said not in self.notes and len(self.notes) < MAX_NOTES:
                self.notes.append(said)
        return {names[name]: value for name, value in fields.items()}


def meanings(columns: Sequence[str]) -> Mapping[str, str]:
    """Column → our name for it, or its own, without blanks around it."""
    return _meanings(tuple(columns))[0]


@lru_cache(256)
def _meanings(columns: tuple[str, ...]) -> tuple[Mapping[str, str], Sequence[str]]:
    """The same, and what has to be said of them."""
    plain = {c: c.strip().lower().replace("-", "_").replace(" ", "_") for c in columns}
    names = {c: plain[c] if plain[c] in COLUMNS else c.strip() for c in columns}
    for ours, others in _OTHERS.items():
        if ours in names.values() or (ours == "url" and "path" in names.values()):
            continue
        found = next((c for other in others for c in columns if plain[c] == other), None)
        if found is not None:
            names[found] = ours
    notes = []
    for column, name in names.items():
        if name in COLUMNS and column != name:
            notes.append(f"the column {column!r} is taken for {name}")
        elif name not in COLUMNS and _may_be_time(plain[column]):
            notes.append(
                f"the column {column!r} is kept as metadata, and cuts nothing; "
                "a range's columns are start and stop, in seconds, or clips"
            )
    return names, notes


def _may_be_time(plain: str) -> bool:
    """Whether a name looks as if it should say what to take of a video."""
    if _TIME_WORDS & set(plain.split("_")):
        return True
    return bool(difflib.get_close_matches(plain, ("start", "stop", "clips"), 1, 0.8))
