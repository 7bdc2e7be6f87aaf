"""Read one WebDataset tar that others made: its samples, their members' places, their packets.

Samples are grouped as the webdataset package does it: following entries whose names are equal up to
the first dot of the file name; that part, folders included, is the key, the rest the extension. A
sample is indexed if its members hold a film, sound or a still picture that can be read; of several,
the first of each kind counts, and a film before a still. Where a tar is cut short, the last sample
is left out: it may lack members.
"""

import hashlib
import os
import re
import tarfile
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shards.errors import ShardError, SourceError
from shards.media import SNIFF_BYTES, sniff
from shards.still import sniff_still, still_track
from shards.tracks import TrackTable, demux_tracks
from shards.writer import IndexColumns

MAX_MEMBER_BYTES = 1 << 31  # a member with media is read whole
MAX_KEY_BYTES = 512
MAX_EXTENSIONS = 1000
CUT_SHORT = "the tar is cut short or damaged"
AFTER_END = "bytes after the tar's end are not read (are several tars joined?)"

_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)  # webdataset's base_plus_ext


@dataclass(frozen=True)
class IndexedTar:
    """What came of one tar: its index file's bytes, and the samples that were left out of it."""

    size: int
    sha256: str
    num_samples: int
    index: bytes
    skipped: dict[str, int]
    details: tuple[str, ...]
    key_hashes: bytes  # 8 for each sample


def index_tar(path: Path) -> IndexedTar:
    """Index one tar.

    Raises:
        SourceError: it is no plain tar, or cannot be read.
    """
    try:
        return _read_tar(path)
    except OSError as error:
        raise SourceError("open", "cannot be read", error.strerror or str(error)) from error


def _read_tar(path: Path) -> IndexedTar:
    columns = IndexColumns()
    skipped: Counter[str] = Counter()
    details: list[str] = []
    hashes = bytearray()
    keys: set[str] = set()
    extensions: set[str] = set()
    with path.open("rb") as file:
        before = os.fstat(file.fileno())
        for key, entries in _groups(file, skipped, details):
            try:
                if key in keys:
                    raise SourceError("list", "the key was there before")
                keys.add(key)
                members, tracks = _sample(file, key, entries)
                if len(extensions | members.keys()) > MAX_EXTENSIONS:
                    raise SourceError("list", f"more than {MAX_EXTENSIONS} kinds of members")
            except SourceError as error:
                skipped[error.cause] += 1
                details.append(f"{key[:80]!r}: {error}")
                continue
            extensions |= members.keys()
            columns.add(key, members, tracks)
            hashes += hashlib.blake2b(key.encode(), digest_size=8).digest()
        sha256 = hashlib.sha256()
        file.seek(0)
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
        after = os.fstat(file.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise SourceError("open", "the tar changed while it was read")
    return IndexedTar(
        size=after.st_size,
        sha256=sha256.hexdigest(),
        num_samples=len(columns),
        index=columns.to_bytes(path.name, after.st_size) if len(columns) else b"",
        skipped=dict(skipped),
        details=tuple(details[:20]),
        key_hashes=bytes(hashes),
    )


def _groups(
    file: BinaryIO, skipped: Counter[str], details: list[str]
) -> Iterator[tuple[str, list[tuple[str, tarfile.TarInfo]]]]:
    """The samples of a tar: key, and (extension, entry) of its members. Damage ends it."""
    key: str | None = None
    members: list[tuple[str, tarfile.TarInfo]] = []
    try:
        tar = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 - the file is the caller's
        for entry in tar:
            named = _NAME.fullmatch(entry.name)
            if not entry.isreg() or named is None:
                continue
            if named[1] != key:
                if key is not None:
                    yield key, members
                key, members = named[1], []
            members.append((named[2].lower(), entry))
    except (tarfile.TarError, ValueError, OverflowError) as error:
        if key is None:
            raise SourceError("open", "not a plain tar", str(error)) from error
        skipped[CUT_SHORT] += 1
        details.append(f"{CUT_SHORT}: {error}")
        return
    # tarfile takes any block that is no header for the end
    end = os.pread(file.fileno(), tarfile.BLOCKSIZE, tar.offset)
    if end != bytes(tarfile.BLOCKSIZE):
        skipped[CUT_SHORT] += 1
        details.append(f"{CUT_SHORT}: no end mark at byte {tar.offset}")
        return
    if key is not None:
        yield key, members
    file.seek(tar.offset)
    while chunk := file.read(1 << 20):
        if chunk.strip(b"\0"):
            skipped[AFTER_END] += 1
            details.append(f"{AFTER_END}: after byte {tar.offset}")
            return


def _sample(
    file: BinaryIO, key: str, entries: list[tuple[str, tarfile.TarInfo]]
) -> tuple[dict[str, tuple[int, int, int]], list[TrackTable]]:
    """Places of a sample's members (offset, size, crc32) and its tracks, the first of each kind."""
    _check_foreign_key(key)
    members: dict[str, tuple[int, int, int]] = {}
    tracks: dict[str, TrackTable] = {}
    fault: SourceError | None = None
    for extension, entry in entries:
        if extension in members:
            raise SourceError("list", "two members of one name", extension)
        if entry.sparse is not None:
            raise SourceError("list", "a sparse member", extension)
        members[extension] = (entry.offset_data, entry.size, _crc32(file, entry))
        try:
            for track in _tracks(file, extension, entry):
                kind, known = track.header.kind, tracks.get(track.header.kind)
                if known is None or (known.is_still and not track.is_still):
                    tracks[kind] = track  # a thumbnail beside a film is not what is meant
        except SourceError as error:
            fault = fault or error
    if not tracks:
        raise fault or SourceError("probe", "no picture and no sound")
    return members, list(tracks.values())


def _check_foreign_key(key: str) -> None:
    if any(unicodedata.category(c).startswith("C") for c in key):  # also bytes that are no text
        raise SourceError("list", "a key with control characters, or that is no text")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise SourceError("list", f"a key of more than {MAX_KEY_BYTES} bytes")


def _crc32(file: BinaryIO, entry: tarfile.TarInfo) -> int:
    crc32, place, stop = 0, entry.offset_data, entry.offset_data + entry.size
    while place < stop:
        chunk = os.pread(file.fileno(), min(1 << 20, stop - place), place)
        if not chunk:
            raise SourceError("open", CUT_SHORT)
        crc32 = zlib.crc32(chunk, crc32)
        place += len(chunk)
    return crc32


def _is_film_or_sound(head: bytes) -> bool:
    try:
        sniff(head)
    except SourceError:
        return False
    return True


def _tracks(file: BinaryIO, extension: str, entry: tarfile.TarInfo) -> list[TrackTable]:
    """The tracks of a member; none where its first bytes are no media's."""
    head = os.pread(file.fileno(), min(SNIFF_BYTES, entry.size), entry.offset_data)
    is_still = sniff_still(head) is not None
    if not is_still and not _is_film_or_sound(head):
        return []
    if entry.size > MAX_MEMBER_BYTES:
        raise SourceError("open", f"a member of more than {MAX_MEMBER_BYTES} bytes", extension)
    data = os.pread(file.fileno(), entry.size, entry.offset_data)
    if is_still:
        return [still_track(data, extension)]
    try:
        return demux_tracks(data, extension)
    except SourceError:
        raise
    except ShardError as error:
        raise SourceError("index", "its packets cannot be indexed", str(error)) from error
