"""Index one third-party WebDataset tar: its samples, where their members lie, their packets.

A sample (see webdataset_tar.py) is indexed if its members hold a video, audio or a still image
that can be read; of several, the first of each kind counts, and a video before a still. Videos
that are shown otherwise than they are coded are left out (displayed.py).
"""

import hashlib
import io
import os
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Self

from shards.errors import ShardError, SourceError
from shards.format.index_file import Check, decode_header, encode_header
from shards.format.sample import is_control
from shards.format.tracks import TrackTable
from shards.format.webdataset_tar import CUT_SHORT, Entry, tar_samples
from shards.format.writer import IndexColumns
from shards.media.container import SNIFF_BYTES, sniff
from shards.media.demux import demux_tracks
from shards.media.displayed import check_displayed
from shards.media.faults import sources_fault
from shards.media.joined import second_recording
from shards.media.still import sniff_still, still_track

MAX_MEMBER_BYTES = 1 << 31  # a member with media is read whole
MAX_KEY_BYTES = 512
MAX_EXTENSIONS = 1000
ANOTHER_VIDEO = "another video in one sample: the first is taken"
ANOTHER_RECORDING = "another recording after a video's end: the first is taken"


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


@dataclass(frozen=True)
class TarTask:
    """A tar to index, by a worker that may not survive it.

    trace: a file that holds the key of the sample that is being read. fatal: the samples that ended
    a worker before, and how; they are not read again.
    """

    path: Path
    trace: Path
    fatal: Mapping[str, SourceError] = field(default_factory=dict)

    def without_last(self, error: SourceError) -> Self | None:
        """The same without the sample that was being read when `error` came; None if none was."""
        try:
            key = self.trace.read_bytes().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None
        return None if key in self.fatal else replace(self, fatal={**self.fatal, key: error})


def index_task(task: TarTask) -> IndexedTar:
    """As `index_tar`, without the samples that are fatal."""
    return index_tar(task.path, task.trace, task.fatal)


def index_tar(
    path: Path, trace: Path | None = None, fatal: Mapping[str, SourceError] | None = None
) -> IndexedTar:
    """Index one tar; see `TarTask`.

    Raises:
        SourceError: it is no plain tar, or cannot be read.
    """
    try:
        return _read_tar(path, trace, fatal or {})
    except OSError as error:
        raise SourceError("open", "cannot be read", error.strerror or str(error)) from error


def _read_tar(path: Path, trace: Path | None, fatal: Mapping[str, SourceError]) -> IndexedTar:
    columns = IndexColumns()
    skipped: Counter[str] = Counter()
    details: list[str] = []
    hashes = bytearray()
    keys: set[str] = set()
    extensions: set[str] = set()
    with path.open("rb") as file:
        before = os.fstat(file.fileno())

        def note(cause: str, detail: str) -> None:
            skipped[cause] += 1
            details.append(f"{cause}: {detail}")

        for key, entries in tar_samples(file, note):
            try:
                if key in keys:
                    raise SourceError("list", "the key was there before")
                keys.add(key)
                if key in fatal:
                    raise fatal[key]
                if trace is not None:
                    trace.write_bytes(key.encode("utf-8", "surrogateescape"))
                members, tracks, unread = _sample(file, key, entries)
                if len(extensions | members.keys()) > MAX_EXTENSIONS:
                    raise SourceError("list", f"more than {MAX_EXTENSIONS} kinds of members")
            except SourceError as error:
                skipped[error.cause] += 1
                details.append(f"{key[:80]!r}: {error}")
                continue
            extensions |= members.keys()
            columns.add(key, members, tracks)
            for cause, extension in unread:
                note(cause, f"{key[:80]!r}: {extension}")
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


def _sample(
    file: BinaryIO, key: str, entries: list[Entry]
) -> tuple[dict[str, tuple[int, int, int]], list[TrackTable], list[tuple[str, str]]]:
    """Places of a sample's members (offset, size, crc32), and its tracks, the first of each kind.

    And what of it is not read: causes and the members' extensions.
    """
    _check_third_party_key(key)
    members: dict[str, tuple[int, int, int]] = {}
    tracks: dict[str, TrackTable] = {}
    fault: SourceError | None = None
    videos: dict[str, Entry] = {}
    for entry in entries:
        extension = entry.extension
        if extension in members:
            raise SourceError("list", "two members of one name", extension)
        if entry.is_sparse:
            raise SourceError("list", "a sparse member", extension)
        members[extension] = (entry.offset, entry.size, _crc32(file, entry))
        try:
            with sources_fault("index"):
                found = _tracks(file, entry)
                for track in found:  # one that cannot be read again would cost the whole tar
                    decode_header(encode_header(track.header), Check(Path(entry.extension)))
            for track in found:
                kind, known = track.header.kind, tracks.get(track.header.kind)
                if kind == "video" and not track.is_still:
                    videos[extension] = entry
                if known is None or (known.is_still and not track.is_still):
                    tracks[kind] = track  # a thumbnail beside a video is not what is meant
        except SourceError as error:
            fault = fault or error
    if not tracks:
        raise fault or SourceError("probe", "no video and no audio")
    first, *others = videos or [""]
    unread = [(ANOTHER_VIDEO, extension) for extension in others]
    if first:
        data, packets = _read(file, videos[first]), tracks["video"]
        check_displayed(data)
        last = int((packets.offset + packets.size).max(initial=0))
        if second_recording(io.BytesIO(data), sniff(data[:SNIFF_BYTES]), last) is not None:
            unread.append((ANOTHER_RECORDING, first))
    return members, list(tracks.values()), unread


def _check_third_party_key(key: str) -> None:
    if any(map(is_control, key)):  # also bytes that are no text
        raise SourceError("list", "a key with control characters, or that is not text")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise SourceError("list", f"a key of more than {MAX_KEY_BYTES} bytes")


def _crc32(file: BinaryIO, entry: Entry) -> int:
    crc32, place, stop = 0, entry.offset, entry.offset + entry.size
    while place < stop:
        chunk = os.pread(file.fileno(), min(1 << 20, stop - place), place)
        if not chunk:
            raise SourceError("open", CUT_SHORT)
        crc32 = zlib.crc32(chunk, crc32)
        place += len(chunk)
    return crc32


def _is_video_or_audio(head: bytes) -> bool:
    try:
        sniff(head)
    except SourceError:
        return False
    return True


def _read(file: BinaryIO, entry: Entry) -> bytes:
    return os.pread(file.fileno(), entry.size, entry.offset)


def _tracks(file: BinaryIO, entry: Entry) -> list[TrackTable]:
    """The tracks of a member; none where its first bytes are no media's."""
    head = os.pread(file.fileno(), min(SNIFF_BYTES, entry.size), entry.offset)
    is_still = sniff_still(head) is not None
    if not is_still and not _is_video_or_audio(head):
        return []
    if entry.size > MAX_MEMBER_BYTES:
        cause = f"a member of more than {MAX_MEMBER_BYTES} bytes"
        raise SourceError("open", cause, entry.extension)
    data = _read(file, entry)
    if is_still:
        return [still_track(data, entry.extension)]
    try:
        return demux_tracks(data, entry.extension)
    except SourceError:
        raise
    except ShardError as error:
        raise SourceError("index", "its packets cannot be indexed", str(error)) from error
