"""Read the samples of a plain tar: entries grouped as the webdataset package groups them.

Following entries whose names are equal up to the first dot of the file name are one sample; that
part, folders included, is the key, the rest the extension. Nothing is extracted; only headers are
read, and memory does not grow with the tar. A link is the member that it leads to in the same tar:
where there is one, the headers are read once more for those that links name.
"""

import posixpath
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from shards.errors import SourceError

MAX_HEADER_BYTES = 1 << 20  # of a long name, or of other things that are said about an entry
CUT_SHORT = "the tar is cut short or damaged"
LINK_TO_NOTHING = "a link to nothing in the tar"
AFTER_END = "bytes after the tar's end are not read (are several tars joined?)"

_MOST_LINKS = 40  # from one to the next, as in Linux
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)  # webdataset's base_plus_ext


class Entry(NamedTuple):
    """One member of a sample: extension, first byte, size; sparse ones are stored in pieces."""

    extension: str
    offset: int
    size: int
    is_sparse: bool


class _Headers:
    """A tar as tarfile may see it, which reads a header of any size into memory."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, count: int) -> bytes:
        if not 0 <= count <= MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {count} bytes")
        return self._file.read(count)


def _opened(file: BinaryIO) -> Any:
    file.seek(0)
    headers: Any = _Headers(file)
    return tarfile.open(fileobj=headers, mode="r:")  # the caller's file


_Place = tuple[int, int, Any]  # first byte, size, and tarfile's word for what is sparse


def _link_targets(file: BinaryIO) -> dict[str, _Place]:
    """The place of what each link of a tar leads to, by the link's name, over other links too."""
    links: dict[str, str] = {}
    for entry in _entries(file):
        if entry.issym():  # from its own folder; a hard link is from the tar's root
            links[_normal(entry.name)] = _normal(posixpath.join(entry.name, "..", entry.linkname))
        elif entry.islnk():
            links[_normal(entry.name)] = _normal(entry.linkname)
    wanted = set(links.values())
    places: dict[str, _Place] = {}
    for entry in _entries(file):
        if entry.isreg() and _normal(entry.name) in wanted:
            places[_normal(entry.name)] = (entry.offset_data, entry.size, entry.sparse)
    found = {}
    for name, target in links.items():
        for _ in range(_MOST_LINKS):
            if target in places or target not in links:
                break
            target = links[target]
        if target in places:
            found[name] = places[target]
    return found


def _entries(file: BinaryIO) -> Iterator[Any]:
    """The headers of a tar up to its end, or to damage."""
    tar, at = _opened(file), 0
    with suppress(tarfile.TarError):
        for entry in tar:
            tar.members = []
            if entry.size < 0 or entry.offset_data <= at:
                return
            at = entry.offset_data
            yield entry


def _normal(name: str) -> str:
    return posixpath.normpath(name)


def tar_samples(
    file: BinaryIO, note: Callable[[str, str], None]
) -> Iterator[tuple[str, list[Entry]]]:
    """The samples of a tar: key and members.

    Args:
        file: the tar, seekable; it may be read elsewhere between two samples.
        note: is told, with cause and detail, why samples after some place are not given. Where a
            tar is cut short, the last sample is not either: it may lack members.

    Raises:
        SourceError: it is no plain tar.
    """
    key: str | None = None
    members: list[Entry] = []
    links: dict[str, _Place] | None = None  # those of the tar, from its first link on
    at = 0
    try:
        tar = _opened(file)
        for entry in tar:
            tar.members = []  # which tarfile would keep all
            if entry.size < 0 or entry.offset_data <= at:  # tarfile would go back, and on for ever
                raise tarfile.ReadError(f"an entry of {entry.size} bytes")
            at = entry.offset_data
            named = _NAME.fullmatch(entry.name)
            is_link = entry.issym() or entry.islnk()
            if not (entry.isreg() or is_link) or named is None:
                continue
            if is_link:
                links = links if links is not None else _link_targets(file)
                found = links.get(_normal(entry.name))
                if found is None:
                    note(LINK_TO_NOTHING, f"{entry.name[:80]} to {entry.linkname[:80]}")
                    continue
                entry.offset_data, entry.size, entry.sparse = found
            if named[1] != key:
                if key is not None:
                    yield key, members
                key, members = named[1], []
            sparse = entry.sparse is not None
            members.append(Entry(named[2].lower(), entry.offset_data, entry.size, sparse))
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        if key is None:
            raise SourceError("open", "not a plain tar", str(error)) from error
        note(CUT_SHORT, str(error))
        return
    # tarfile takes any block that is no header for the end
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        note(CUT_SHORT, f"no end mark at byte {tar.offset}")
        return
    if key is not None:
        yield key, members
    file.seek(tar.offset)
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            note(AFTER_END, f"after byte {tar.offset}")
            return
