"""Read `{shard}.index`: where every member and every packet of a tar shard lies.

The file is memory-mapped and checked when it is opened (see index_file.py), so that looking a
sample up is slicing and nothing else.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import IndexFormatError
from shards.format.index_file import Check, check_columns, decode_header, read_columns, shard_of
from shards.format.mpegts import Transport
from shards.format.tracks import DISCARD, KEYFRAME
from shards.storage.local_files import Identity, open_regular


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
    """The opened index of one shard.

    Args:
        path: the `.index` file.
        shard_size: the tar's size in bytes now; None asks the file beside the index.

    Raises:
        IndexFormatError: the file is no index of this version, is damaged, or is of another tar.
    """

    def __init__(self, path: Path, shard_size: int | None = None) -> None:
        self.path = path
        with open_regular(path) as file:
            self.identity = Identity.of(file.fileno())
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise IndexFormatError(f"Index {path} is empty; rebuild the shard.") from error
        self._columns, about = read_columns(self._map, path)
        check = Check(path)
        self.shard, self.shard_size = shard_of(about, check)
        if shard_size is None:
            shard_size = (path.parent / self.shard).stat().st_size
        if shard_size != self.shard_size:
            raise IndexFormatError(
                f"Index {path} was made for a {self.shard} of {self.shard_size} bytes, and the "
                f"file has {shard_size}: one of the two was changed or cut short. "
                "Rebuild the shard."
            )
        self._extensions = [check.text(e, "extensions") for e in check.a(list, about, "extensions")]
        headers = check.a(list, about, "headers")
        self._headers = [decode_header(h, check) for h in headers]
        in_pieces = np.array([header["transport"] is not None for header in self._headers], bool)
        check_columns(self._columns, self.shard_size, len(self._extensions), in_pieces, check)
        self._num_samples = len(self._columns["key_stop"])

    def __len__(self) -> int:
        return self._num_samples

    def __repr__(self) -> str:
        packets = len(self._columns["packet_offset"])
        return f"ShardIndex({self.path.name}: N={len(self)}, P={packets})"

    def column(self, name: str) -> npt.NDArray[Any]:
        """One whole column, for tools that check or count."""
        self._check_whole()
        return self._columns[name]

    def key(self, i: int) -> str:
        """The key of sample i."""
        self._check_whole()
        start, stop = self._rows("key_stop", i)
        return self._columns["key_bytes"][start:stop].tobytes().decode()

    def sample(self, i: int) -> IndexedSample:
        """Sample i of the shard, 0 ≤ i < len."""
        if not 0 <= i < self._num_samples:
            raise IndexFormatError(f"{self.path} has samples 0 to {len(self) - 1}; asked for {i}.")
        self._check_whole()
        c = self._columns
        members: dict[str, Member] = {}
        first, stop = self._rows("member_stop", i)
        for m in range(first, stop):
            extension = self._extensions[c["member_extension"][m]]
            offset, size = int(c["member_offset"][m]), int(c["member_size"][m])
            members[extension] = Member(extension, offset, size, int(c["member_crc32"][m]))
        tracks: dict[str, Track] = {}
        first, stop = self._rows("track_stop", i)
        for t in range(first, stop):
            track = self._track(t)
            tracks.setdefault(track.kind, track)
        return IndexedSample(
            self.key(i), self.shard, members, tracks.get("video"), tracks.get("audio")
        )

    def _check_whole(self) -> None:
        """See that the mapped file was not cut short: to read past its end would end the process.

        What `sample` hands out is copied for the same reason.

        Raises:
            IndexFormatError: it was.
        """
        if self._map.size() != self.identity.size:
            raise IndexFormatError(
                f"Index {self.path} had {self.identity.size} bytes when it was opened and has "
                f"{self._map.size()} now: something cut it short or wrote to it. Copy it again, or "
                "build the shard again, and start anew."
            )

    def _rows(self, name: str, i: int) -> tuple[int, int]:
        column = self._columns[name]
        return (int(column[i - 1]) if i else 0), int(column[i])

    def _track(self, t: int) -> Track:
        c = self._columns
        first, stop = self._rows("packet_stop", t)
        header = self._headers[c["track_header"][t]]
        tick = header["time_base"]
        rows = slice(first, stop)
        member = int(c["track_member"][t])
        flags = c["packet_flags"][rows]
        return Track(
            **header,
            member=self._extensions[c["member_extension"][member]],
            member_offset=int(c["member_offset"][member]),
            member_size=int(c["member_size"][member]),
            start_seconds=int(c["track_start"][t]) * tick.numerator / tick.denominator,
            stop_seconds=int(c["track_end"][t]) * tick.numerator / tick.denominator,
            packets=Packets(
                c["packet_offset"][rows].copy(),
                c["packet_size"][rows].copy(),
                c["packet_pts"][rows].copy(),
                c["packet_duration"][rows].copy(),
                (flags & KEYFRAME).view(np.bool_),
                (flags & DISCARD) != 0,
                c["packet_crc32"][rows].copy(),
            ),
        )
