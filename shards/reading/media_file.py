"""One film, sound or picture as a data set of one sample, as it lies: nothing is built.

The file is read whole and its packets are indexed, as those of a tar that others made.
"""

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from shards.errors import ShardError, SourceError
from shards.format.index import IndexedSample, Member, Packets, Track
from shards.format.tracks import DISCARD, KEYFRAME, TrackTable
from shards.media.faults import sources_fault
from shards.media.still import sniff_still, still_track

MAX_FILE_BYTES: Final = 1 << 30
_MEMBER = "media"


class MediaFile:
    """A media file as a data set of one sample.

    Args:
        name: what it is called, in messages and as its key.
        data: its bytes.

    Raises:
        SourceError: they are no media that can be read.
    """

    is_remote = False

    def __init__(self, name: str, data: bytes) -> None:
        self.path: Path | str = name
        self._data = data
        self.fingerprint = hashlib.sha256(data).hexdigest()[:32]
        with sources_fault("index"):
            try:
                is_still = sniff_still(data[:64]) is not None
                from shards.media.demux import demux_tracks  # libav, for who asks with a file

                tables = [still_track(data, _MEMBER)] if is_still else demux_tracks(data, _MEMBER)
            except SourceError:
                raise
            except ShardError as error:
                raise SourceError("index", "its packets cannot be indexed", str(error)) from error
        if not tables:
            raise SourceError("probe", "no picture and no sound")
        tracks = {table.header.kind: track_of(table, len(data)) for table in tables}
        members = {_MEMBER: Member(_MEMBER, 0, len(data), zlib.crc32(data))}
        key = Path(name).name
        self._sample = IndexedSample(key, key, members, tracks.get("video"), tracks.get("audio"))

    @classmethod
    def open(cls, path: Path) -> "MediaFile":
        """Read the file at a path.

        Raises:
            SourceError: it cannot be read, is larger than 1 GiB, or is no media.
        """
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise SourceError("open", "cannot be read", error.strerror or str(error)) from error
        if len(data) > MAX_FILE_BYTES:
            raise SourceError("open", f"more than {MAX_FILE_BYTES} bytes; build shards of it")
        return cls(str(path), data)

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return f"MediaFile({self.path}: {len(self._data)} bytes)"

    def sample(self, i: int) -> IndexedSample:
        """The one sample."""
        if i != 0:
            raise IndexError(f"{self.path} is one sample, number 0; asked for {i}.")
        return self._sample

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of the file."""
        return self._data[offset : offset + size]

    def reader(
        self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]
    ) -> Callable[[int, int], bytes]:
        """See `Dataset.reader`."""
        return partial(self.read, sample)

    def read_member(self, sample: IndexedSample, extension: str) -> bytes:
        """The whole file.

        Raises:
            ShardError: it is another member.
        """
        if extension != _MEMBER:
            raise ShardError(f"{self.path} has no member .{extension}; it is one file.")
        return self._data

    def metadata(self, i: int) -> dict[str, Any]:
        """Its name as source."""
        return {"source": Path(str(self.path)).name}


def track_of(table: TrackTable, member_size: int) -> Track:
    """The track that a table describes, of a member that is a file of its own."""
    header, tick = table.header, table.header.time_base
    return Track(
        **{field.name: getattr(header, field.name) for field in fields(header)},
        member=table.member,
        member_offset=0,
        member_size=member_size,
        start_seconds=float(table.start * tick),
        stop_seconds=float(table.stop * tick),
        packets=Packets(
            table.offset,
            table.size,
            table.pts,
            table.duration,
            np.asarray((table.flags & KEYFRAME) != 0),
            np.asarray((table.flags & DISCARD) != 0),
            table.crc32,
        ),
    )
