"""List the sources of a build in one fixed order: folders, files, patterns, URLs, tars.

What is given twice is taken once. Nothing is held but one folder's names at a time. A tar of videos
counts as a folder of its samples (video_tars.py); a folder behind a URL is listed by fsspec
(remote_listing.py). Lists that name videos are read by source_lists.py.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from shards.errors import BuildError
from shards.sources.source import Source
from shards.sources.source_lists import is_called_like_a_list, is_list, read_lists
from shards.sources.video_tars import is_tar, tar_sources
from shards.storage.globs import compiled, is_pattern, split_pattern
from shards.storage.local_listing import files_below
from shards.storage.opening import Location
from shards.storage.remote_listing import is_remote_folder, remote_files
from shards.storage.urls import folder_or_url, is_url, public


@dataclass
class _Asked:
    """One thing that was given: a file, a folder, or what matches a pattern in a folder."""

    given: str
    within: str = ""  # the root's path of it; "" where it is the root
    pattern: re.Pattern[str] | None = None
    found: bool = False

    def has(self, path: str) -> bool:
        """Whether it takes in a path within the root."""
        if self.within:
            if self.pattern is None and path == self.within:
                return True
            inside = path.startswith(f"{self.within}/")
            path = path[len(self.within) + 1 :] if inside else ""
        return bool(path) and (self.pattern is None or self.pattern.fullmatch(path) is not None)


@dataclass
class _Root:
    """A folder or file to look through, and all that was given of what is in it."""

    place: str  # absolute path, or URL without a slash at its end
    is_folder: bool
    asked: list[_Asked]

    @property
    def around(self) -> str:
        return self.place if self.is_folder else self.place.rpartition("/")[0]

    def askers(self, path: str) -> list[_Asked]:
        """Who takes in a path within what is around."""
        return self.asked if not self.is_folder else [a for a in self.asked if a.has(path)]


def sources_of(
    given: Sequence[str | Path],
    out: Path | str,
    labels: Path | None = None,
    repeated: Counter[tuple[str, str]] | None = None,
    notes: list[str] | None = None,
) -> Iterator[Source]:
    """Every video that a build is given, in a fixed order.

    `repeated` is that of `list_sources`, `notes` that of `read_lists`.

    Raises:
        BuildError: a source does not exist, or a list is wrong; or lists are given together with
            something else.
    """
    texts = [_plain(text) for text in given]
    for text in texts:
        if is_url(text) and is_called_like_a_list(text):
            raise BuildError(
                f"List {public(text)} is behind a URL; copy it here and name the copy."
            )
    lists = [Path(text) for text in texts if not is_url(text) and is_list(Path(text))]
    if not lists:
        apart = [p for p in (folder_or_url(out), labels) if isinstance(p, Path)]
        return list_sources(texts, apart, repeated)
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
    return read_lists(lists, notes)


def list_sources(
    given: Sequence[str | Path],
    leave_out: Sequence[Path] = (),
    repeated: Counter[tuple[str, str]] | None = None,
) -> Iterator[Source]:
    """Every file under the given folders and URLs, and the given files; sorted within each folder.

    Hidden files and folders are left out. With one folder given, names are paths within it; with
    several, paths within the folder that holds them all, so that names are unique; things behind
    URLs are then called by their URLs. Folders and files in `leave_out` (the target, the labels
    file) are no sources. A file that is given more than once, by name or with what is around it,
    is one source; `repeated` counts such files by the first two that gave it.

    Raises:
        BuildError: a source does not exist, or a pattern matches nothing.
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
    return _sources(roots, base, apart, Counter() if repeated is None else repeated)


def _plain(given: str | Path) -> str:
    return str(folder_or_url(given))


def _root(text: str) -> _Root:
    pattern = None
    place = text
    listable = not text.startswith(("http://", "https://"))  # and a "?" there is no wildcard
    if listable and is_pattern(text) and (is_url(text) or not Path(text).exists()):
        place, wanted = split_pattern(text)
        pattern = compiled(wanted)
    asked = [_Asked(text, pattern=pattern)]
    if is_url(place):
        folder = listable and (
            pattern is not None or place.endswith("/") or is_remote_folder(place)
        )
        return _Root(place.rstrip("/"), folder, asked)
    path = Path(place)
    if not path.exists():
        raise BuildError(f"Source {text} does not exist; check the path.")
    path = path.resolve()
    return _Root(str(path), path.is_dir(), asked)


def _united(roots: list[_Root]) -> list[_Root]:
    """The same in order, with what lies within a folder that is given too made a part of it."""
    by_place: dict[str, _Root] = {}
    for root in sorted(roots, key=lambda root: root.place):
        outer = next(
            (by_place[p] for p in _and_above(root.place) if _walks(by_place.get(p), root)), None
        )
        if outer is None:
            by_place[root.place] = root
            continue
        within = root.place[len(outer.place) :].lstrip("/")
        outer.asked += [replace(asked, within=within) for asked in root.asked]
    _refuse_one_name(list(by_place))
    return list(by_place.values())


def _and_above(place: str) -> Iterator[str]:
    """A place, and all folders above it."""
    yield place
    around = place
    while around.rfind("/") > 0:
        around = around.rpartition("/")[0]
        yield around
    if place.startswith("/"):
        yield "/"


def _walks(outer: _Root | None, inner: _Root) -> bool:
    """Whether whoever looks through `outer` comes to `inner`: not where that is hidden."""
    if outer is None or outer.place == inner.place:
        return outer is not None
    steps = inner.place[len(outer.place) :].lstrip("/").split("/")
    return outer.is_folder and not any(step.startswith(".") for step in steps)


def _refuse_one_name(places: list[str]) -> None:
    """Refuse URLs that differ only in what no name may say: their clips would have one key."""
    first: dict[str, str] = {}
    for place in filter(is_url, places):
        if first.setdefault(public(place), place) != place:
            raise BuildError(
                f"Source {public(place)} is given twice, with different passwords or signatures, "
                "which are not part of a name. Give it once."
            )


def _sources(
    roots: list[_Root], base: str, apart: AbstractSet[str], repeated: Counter[tuple[str, str]]
) -> Iterator[Source]:
    for root in roots:
        remote = is_url(root.place)
        for place in _files(root, apart):
            within = place[len(root.around) :].lstrip("/")
            askers = root.askers(within)
            if not askers:
                continue
            for asked in askers:
                asked.found = True
            if len(askers) > 1:
                repeated[public(askers[0].given), public(askers[1].given)] += 1
            if remote:
                name = within if len(roots) == 1 and root.is_folder else public(place)
            else:
                name = place[len(base) :].lstrip("/")
            location = Location(place)
            if is_tar(place):
                yield from tar_sources(location, name)
            else:
                yield Source(name, location)
        for asked in root.asked:
            if asked.pattern is not None and not asked.found:
                raise BuildError(
                    f"Source {public(asked.given)} matches no file; check the pattern."
                )


def _files(root: _Root, apart: AbstractSet[str]) -> Iterator[str]:
    if not root.is_folder:
        yield root.place
    elif is_url(root.place):
        yield from remote_files(root.place)
    else:
        yield from files_below(root.place, apart)  # a link to nothing is a counted skip
