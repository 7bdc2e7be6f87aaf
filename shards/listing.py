"""List what a build is given as sources, in one fixed order: folders, files, patterns, URLs, tars.

Nothing is held but one folder's names at a time. A tar of videos counts as a folder of its samples
(tar_sources.py); a folder behind a URL is listed by fsspec (far_folders.py). Lists that name videos
are read by lists.py.
"""

import os
import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

from shards.errors import BuildError
from shards.far_folders import far_files, is_far_folder
from shards.lists import is_called_like_a_list, is_list, read_lists
from shards.opening import Location
from shards.patterns import compiled, is_pattern, split_pattern
from shards.sources import Source
from shards.tar_sources import is_tar, tar_sources
from shards.transfer import folder_or_url, is_url, public


@dataclass
class _Root:
    """A folder or file that is given; of a folder, the patterns of what is wanted in it."""

    place: str  # absolute path, or URL without a slash at its end
    given: str
    is_folder: bool
    patterns: list[re.Pattern[str]]

    @property
    def around(self) -> str:
        return self.place if self.is_folder else self.place.rpartition("/")[0]


def sources_of(
    given: Sequence[str | Path], out: Path | str, labels: Path | None = None
) -> Iterator[Source]:
    """Every film that a build is given, in a fixed order.

    Raises:
        BuildError: a source does not exist or is given twice, or a list is wrong; or lists are
            given together with something else.
    """
    texts = [_plain(text) for text in given]
    for text in texts:
        if is_url(text) and is_called_like_a_list(text):
            raise BuildError(
                f"List {public(text)} is behind a URL; copy it here and name the copy."
            )
    lists = [Path(text) for text in texts if not is_url(text) and is_list(Path(text))]
    if not lists:
        return list_sources(texts, [p for p in (folder_or_url(out), labels) if isinstance(p, Path)])
    if len(lists) < len(given):
        raise BuildError(
            f"List {lists[0]} is given together with folders or videos; build them apart, or name "
            "those videos in the list too."
        )
    if labels is not None:
        raise BuildError(
            f"Labels {labels} are given with the list {lists[0]}; a list has them in its own "
            "column, label."
        )
    return read_lists(lists)


def list_sources(given: Sequence[str | Path], leave_out: Sequence[Path] = ()) -> Iterator[Source]:
    """Every file under the given folders and URLs, and the given files; sorted within each folder.

    Hidden files and folders are left out. With one folder given, names are paths within it; with
    several, paths within the folder that holds them all, so that names are unique; things behind
    URLs are then called by their URLs. Folders and files in `leave_out` (the target, the labels
    file) are no sources.

    Raises:
        BuildError: a source does not exist, is given twice, or lies inside another one.
    """
    roots = _united([_root(_plain(text)) for text in given])
    if not roots:
        raise BuildError("No source is given; name a folder of videos, or video files.")
    here = [root for root in roots if not is_url(root.place)]
    base = ""
    if here:
        one = len(roots) == 1 and here[0].is_folder
        base = here[0].place if one else os.path.commonpath([Path(r.place).parent for r in here])
    apart = {str(path.resolve()) for path in leave_out}
    return _sources(sorted(roots, key=lambda root: root.place), base, apart)


def _plain(given: str | Path) -> str:
    return str(folder_or_url(given))


def _root(text: str) -> _Root:
    patterns = []
    place = text
    listable = not text.startswith(("http://", "https://"))  # and a "?" there is no wildcard
    if listable and is_pattern(text) and (is_url(text) or not Path(text).exists()):
        place, pattern = split_pattern(text)
        patterns = [compiled(pattern)]
    if is_url(place):
        folder = listable and (bool(patterns) or place.endswith("/") or is_far_folder(place))
        return _Root(place.rstrip("/"), text, folder, patterns)
    path = Path(place)
    if not path.exists():
        raise BuildError(f"Source {text} does not exist; check the path.")
    path = path.resolve()
    return _Root(str(path), text, path.is_dir(), patterns)


def _united(roots: list[_Root]) -> list[_Root]:
    """The same, with the patterns of one folder together; refuses what overlaps."""
    by_place: dict[str, _Root] = {}
    for root in roots:
        first = by_place.setdefault(root.place, root)
        if first is root:
            continue
        if not (first.patterns and root.patterns):
            raise _given_twice(root)
        first.patterns += root.patterns
    for root in by_place.values():
        around = root.place
        while around.count("/") and around != (around := around.rpartition("/")[0]):
            if around in by_place:
                raise _given_twice(root)
    return list(by_place.values())


def _given_twice(root: _Root) -> BuildError:
    return BuildError(f"Source {public(root.given)} is given twice (also within another source).")


def _sources(roots: list[_Root], base: str, apart: AbstractSet[str]) -> Iterator[Source]:
    for root in roots:
        far = is_url(root.place)
        found = 0
        for place in _files(root, apart):
            within = place[len(root.around) :].lstrip("/")
            if root.patterns and not any(p.fullmatch(within) for p in root.patterns):
                continue
            found += 1
            if far:
                name = within if len(roots) == 1 and root.is_folder else public(place)
            else:
                name = Path(place).relative_to(base).as_posix()
            location = Location(place)
            if is_tar(place):
                yield from tar_sources(location, name)
            else:
                yield Source(name, location)
        if root.patterns and not found:
            raise BuildError(f"Source {public(root.given)} matches no file; check the pattern.")


def _files(root: _Root, apart: AbstractSet[str]) -> Iterator[str]:
    if not root.is_folder:
        yield root.place
    elif is_url(root.place):
        yield from far_files(root.place)
    else:
        yield from _walk(root.place, apart, frozenset())


def _walk(folder: str, apart: AbstractSet[str], above: frozenset[str]) -> Iterator[str]:
    """The files in a folder, links followed but for those that lead back to a folder above."""
    above |= {os.path.realpath(folder)}
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda e: e.name)
    for entry in entries:
        if entry.name.startswith(".") or entry.path in apart:
            continue
        if entry.is_symlink() and os.path.realpath(entry.path) in above | apart:
            continue
        if entry.is_dir():
            yield from _walk(entry.path, apart, above)
        elif entry.is_file() or entry.is_symlink():  # one that leads nowhere is a counted skip
            yield entry.path
