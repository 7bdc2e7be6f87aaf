"""Read `{shard}.index`: where every member and every packet of a tar shard lies.

The file is checked when it is opened (see index_file.py); to look a sample up, its own rows are
read and nothing else. No column stays in memory, so ten thousand open indexes take little of it.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import IndexFormatError
from shards.format.index_file import Check, check_columns, decode_header, read_header, shard_of
from shards.format.mpegts import Transport
from shards.format.tracks import DISCARD, KEYFRAME
from shards.storage.local_files import Identity, open_descriptor


@dataclass(frozen=True, eq=False)
class Packets:
    """The packets of one track, [P] each, in file (decode) order.

    offset counts bytes from the shard's start; pts and duration are ticks of the track's time_base.
    discard: needed to decode others, never shown (an edit list hides it).
    """

    offset: npt.NDArray[np.uint64]
    size: npt.NDArray[np.uint32]
    pts: npt.NDArray[np.int64]
    duration: npt.NDArray[np.int64]
    keyframe: npt.NDArray[np.bool_]
    discard: npt.NDArray[np.bool_]
    crc32: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.offset)

    def __repr__(self) -> str:
        return f"Packets(P={len(self)}, keyframes={int(self.keyframe.sum())})"


@dataclass(frozen=True, eq=False)
class Track:
    """One decodable track of a sample: codec header, presentation range, packet table.

    member_offset, member_size: bytes of the shard that its member takes. transport: how packets lie
    there in pieces; None where each is one piece.
    """

    kind: str
    member: str
    codec: str
    extradata: bytes
    time_base: Fraction
    width: int
    height: int
    pixel_format: str | None
    color_matrix: str | None
    color_range: str | None
    frame_rate: Fraction | None
    sample_rate_hz: int
    num_channels: int
    start_seconds: float
    stop_seconds: float
    packets: Packets
    member_offset: int
    member_size: int
    transport: Transport | None = None

    @property
    def is_still(self) -> bool:
        """Whether it is one image without a time, which covers any second."""
        return self.kind == "video" and self.frame_rate is None and len(self.packets) == 1

    def __repr__(self) -> str:
        shape = (
            f"{self.width}×{self.height} {self.pixel_format} {self.color_matrix} {self.color_range}"
            if self.kind == "video"
            else f"{self.sample_rate_hz} Hz × {self.num_channels}"
        )
        return (
            f"Track({self.codec} in .{self.member}, {shape}, "
            f"{self.start_seconds:.3f}–{self.stop_seconds:.3f} s, {self.packets})"
        )


@dataclass(frozen=True)
class Member:
    """One tar entry of a sample: `size` bytes at `offset` of the shard."""

    extension: str
    offset: int
    size: int
    crc32: int


@dataclass(frozen=True, eq=False)
class IndexedSample:
    """One sample as the index knows it.

    shard: the tar's file name. fault: why there is no track, where media lie there that cannot be
    read.
    """

    key: str
    shard: str
    members: Mapping[str, Member]
    video: Track | None
    audio: Track | None
    fault: str = ""


class ShardIndex:
    """The opened index of one shard: a file, of which only what is asked for is read.

    Args:
        path: the `.index` file.
        shard_size: the tar's size in bytes now; None asks the file beside the index.
        check: refuse columns that do not fit each other, or reach outside the shard. Without it,
            nothing but `find` is to be asked of a file that was not checked before.
        is_cached: the file is a cache's, whose time of change is when it was last used.

    Attributes:
        identity: what the file is.

    Raises:
        IndexFormatError: the file is no index of this version, is damaged, or is of another tar.
    """

    def __init__(
        self,
        path: Path,
        shard_size: int | None = None,
        *,
        check: bool = True,
        is_cached: bool = False,
    ) -> None:
        self.path = path
        self._descriptor = open_descriptor(path)
        self._file = FileIO(self._descriptor)  # closes it, and has no buffer to fill
        self.identity = Identity.of(self._descriptor)
        self._is_cached = is_cached
        self._places, about = read_header(self._file, path)
        must = Check(path)
        self.shard, self.shard_size = shard_of(about, must)
        if shard_size is None:
            shard_size = (path.parent / self.shard).stat().st_size
        if shard_size != self.shard_size:
            raise IndexFormatError(
                f"Index {path} was made for a {self.shard} of {self.shard_size} bytes, and the "
                f"file has {shard_size}: one of the two was changed or cut short. "
                "Rebuild the shard."
            )
        self._extensions = [must.text(e, "extensions") for e in must.a(list, about, "extensions")]
        self._headers = [decode_header(h, must) for h in must.a(list, about, "headers")]
        if check:
            in_pieces = np.array([h["transport"] is not None for h in self._headers], bool)
            columns = {name: self.column(name) for name in self._places}
            check_columns(columns, self.shard_size, len(self._extensions), in_pieces, must)
        self._num_samples = self._places["key_stop"].rows

    def __len__(self) -> int:
        return self._num_samples

    def __repr__(self) -> str:
        packets = self._places["packet_offset"].rows
        return f"ShardIndex({self.path.name}: N={len(self)}, P={packets})"

    def column(self, name: str) -> npt.NDArray[Any]:
        """One whole column, for tools that check or count."""
        self._check_unchanged()
        return self._rows(name, 0, self._places[name].rows)

    def key(self, i: int) -> str:
        """The key of sample i."""
        start, stop = self._range("key_stop", i)
        return self._rows("key_bytes", start, stop).tobytes().decode()

    def find(self, key: str) -> int | None:
        """The number of the sample with this key."""
        text, wanted = self.column("key_bytes").tobytes(), key.encode("utf-8", "surrogatepass")
        at = text.find(wanted) if wanted else -1
        stops = self.column("key_stop") if at >= 0 else np.empty(0, np.uint64)
        while at >= 0:
            i = int(np.searchsorted(stops, np.uint64(at), side="right"))
            if self._range("key_stop", i) == (at, at + len(wanted)):
                return i
            at = text.find(wanted, at + 1)
        return None

    def sample(self, i: int) -> IndexedSample:
        """Sample i of the shard, 0 ≤ i < len."""
        if not 0 <= i < self._num_samples:
            raise IndexFormatError(f"{self.path} has samples 0 to {len(self) - 1}; asked for {i}.")
        self._check_unchanged()
        first, stop = self._range("member_stop", i)
        members = dict(zip(range(first, stop), self._members(first, stop), strict=True))
        tracks: dict[str, Track] = {}
        for track in self._tracks(*self._range("track_stop", i), members):
            tracks.setdefault(track.kind, track)
        by_extension = {member.extension: member for member in members.values()}
        return IndexedSample(
            self.key(i), self.shard, by_extension, tracks.get("video"), tracks.get("audio")
        )

    def _check_unchanged(self) -> None:
        """See that the file is as it was when it was checked.

        Raises:
            IndexFormatError: it is not.
        """
        now = os.fstat(self._descriptor)
        is_same = self._is_cached or now.st_mtime_ns == self.identity.mtime_ns
        if now.st_size != self.identity.size or not is_same:
            raise IndexFormatError(
                f"Index {self.path} had {self.identity.size} bytes when it was opened and has "
                f"{now.st_size} now: something cut it short or wrote to it. Copy it again, or "
                "build the shard again, and start anew."
            )

    def _rows(self, name: str, first: int, stop: int) -> npt.NDArray[Any]:
        """Rows [first, stop) of a column, which are the caller's own."""
        offset, _, dtype = self._places[name]
        rows: npt.NDArray[Any] = np.empty(stop - first, dtype)
        if os.preadv(self._descriptor, [rows.data], offset + first * dtype.itemsize) != rows.nbytes:
            raise IndexFormatError(f"Index {self.path} could not be read to its end; try again.")
        return rows

    def _range(self, name: str, i: int) -> tuple[int, int]:
        """Where the rows of i begin and end, by the column that says where rows end."""
        if not i:
            return 0, int(self._rows(name, 0, 1)[0])
        start, stop = self._rows(name, i - 1, i + 1).tolist()
        return start, stop

    def _members(self, first: int, stop: int) -> list[Member]:
        kinds = self._rows("member_extension", first, stop).tolist()
        offsets = self._rows("member_offset", first, stop).tolist()
        sizes = self._rows("member_size", first, stop).tolist()
        checksums = self._rows("member_crc32", first, stop).tolist()
        names = [self._extensions[kind] for kind in kinds]
        return list(map(Member, names, offsets, sizes, checksums))

    def _tracks(self, first: int, stop: int, members: Mapping[int, Member]) -> Iterator[Track]:
        """The tracks of these rows, and so one sample's; `members` are its own, by their rows."""
        if first == stop:
            return
        places = self._rows("track_member", first, stop).tolist()
        headers = self._rows("track_header", first, stop).tolist()
        starts = self._rows("track_start", first, stop).tolist()
        ends = self._rows("track_end", first, stop).tolist()
        stops = self._rows("packet_stop", max(0, first - 1), stop).tolist()
        stops = stops if first else [0, *stops]
        packets = self._packets(stops[0], stops[-1])
        for t, place in enumerate(places):
            header, rows = (
                self._headers[headers[t]],
                slice(stops[t] - stops[0], stops[t + 1] - stops[0]),
            )
            tick = header["time_base"]
            member = members[place] if place in members else self._members(place, place + 1)[0]
            yield Track(
                **header,
                member=member.extension,
                member_offset=member.offset,
                member_size=member.size,
                start_seconds=starts[t] * tick.numerator / tick.denominator,
                stop_seconds=ends[t] * tick.numerator / tick.denominator,
                packets=Packets(*[column[rows] for column in packets]),
            )

    def _packets(self, first: int, stop: int) -> list[npt.NDArray[Any]]:
        """What `Packets` holds, of these rows."""
        offset = self._rows("packet_offset", first, stop)
        size = self._rows("packet_size", first, stop)
        pts = self._rows("packet_pts", first, stop)
        duration = self._rows("packet_duration", first, stop)
        flags = self._rows("packet_flags", first, stop)
        keyframe, discard = (flags & KEYFRAME).view(np.bool_), (flags & DISCARD) != 0
        crc32 = self._rows("packet_crc32", first, stop)
        return [offset, size, pts, duration, keyframe, discard, crc32]
