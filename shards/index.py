"""`{shard}.index`: where every member and every packet of a tar shard lies. Reading side.

A safetensors file of plain number columns, memory-mapped, one json string in its header. Everything
is checked when it is opened (shapes, counts, and that every range lies within its member and
every member within the shard), so that looking a sample up is slicing and nothing else.

Legend: N samples, M members, T tracks, P packets. `*_stop[i]` is where the rows of i end; they
begin where those of i - 1 end.
"""

import base64
import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.errors import IndexFormatError
from shards.tracks import DISCARD, KEYFRAME, CodecHeader
from shards.transport import Transport

FORMAT, VERSION = "gdt-shard-index", 1
HEADER_KEY = "gdt_shard_index"  # one metadata entry: several would be written in random order
MAX_HEADER_BYTES = 1 << 24

COLUMNS: dict[str, str] = {
    "key_bytes": "U8",
    "key_stop": "U64",  # [N]
    "member_stop": "U64",  # [N]
    "member_extension": "U16",  # [M] number of an extension
    "member_offset": "U64",  # [M] bytes from the shard's start
    "member_size": "U64",
    "member_crc32": "U32",
    "track_stop": "U64",  # [N]
    "track_member": "U64",  # [T] number of a member
    "track_header": "U32",  # [T] number of a codec header
    "track_start": "I64",  # [T] ticks
    "track_end": "I64",
    "packet_stop": "U64",  # [T]
    "packet_offset": "U64",  # [P] bytes from the shard's start
    "packet_size": "U32",
    "packet_pts": "I64",  # [P] ticks, presentation time after edit lists
    "packet_duration": "I64",
    "packet_crc32": "U32",
    "packet_flags": "U8",
}
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64, "I64": np.int64}


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
    """One sample as the index knows it; `shard` is the tar's file name."""

    key: str
    shard: str
    members: Mapping[str, Member]
    video: Track | None
    audio: Track | None


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
        with path.open("rb") as file:
            try:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise IndexFormatError(f"Index {path} is empty; rebuild the shard.") from error
        self._columns, about = _parse(self._map, path)
        check = _Check(path)
        self.shard, self.shard_size = _about_shard(about, check)
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
        self._headers = [_header_fields(h, check) for h in headers]
        self._check_columns(check)
        self._num_samples = len(self._columns["key_stop"])

    def __len__(self) -> int:
        return self._num_samples

    def __repr__(self) -> str:
        packets = len(self._columns["packet_offset"])
        return f"ShardIndex({self.path.name}: N={len(self)}, P={packets})"

    def column(self, name: str) -> npt.NDArray[Any]:
        """One whole column, for tools that check or count."""
        return self._columns[name]

    def key(self, i: int) -> str:
        """The key of sample i."""
        start, stop = self._rows("key_stop", i)
        return self._columns["key_bytes"][start:stop].tobytes().decode()

    def sample(self, i: int) -> IndexedSample:
        """Sample i of the shard, 0 ≤ i < len."""
        if not 0 <= i < self._num_samples:
            raise IndexFormatError(f"{self.path} has samples 0 to {len(self) - 1}; asked for {i}.")
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
                c["packet_offset"][rows],
                c["packet_size"][rows],
                c["packet_pts"][rows],
                c["packet_duration"][rows],
                (flags & KEYFRAME).view(np.bool_),
                (flags & DISCARD) != 0,
                c["packet_crc32"][rows],
            ),
        )

    def _check_columns(self, check: "_Check") -> None:
        c = self._columns
        n, m, t = len(c["key_stop"]), len(c["member_offset"]), len(c["track_member"])
        p = len(c["packet_offset"])
        for names, rows in (
            (("key_stop", "member_stop", "track_stop"), n),
            (("member_extension", "member_offset", "member_size", "member_crc32"), m),
            (("track_member", "track_header", "track_start", "track_end", "packet_stop"), t),
            ([name for name in COLUMNS if name.startswith("packet_") and name != "packet_stop"], p),
        ):
            for name in names:
                check(len(c[name]) == rows, f"column {name} has {len(c[name])} rows, not {rows}")
        for name, rows in (
            ("key_stop", len(c["key_bytes"])),
            ("member_stop", m),
            ("track_stop", t),
            ("packet_stop", p),
        ):
            stops = c[name]
            rising = not len(stops) or bool((stops[1:] >= stops[:-1]).all())
            ends = int(stops[-1]) if len(stops) else 0
            check(rising and ends == rows, f"column {name} does not rise to {rows}")
        check(_below(c["member_extension"], len(self._extensions)), "an extension is not listed")
        check(_below(c["track_header"], len(self._headers)), "a codec header is not listed")
        check(_below(c["track_member"], m), "a track's member does not exist")
        offset, size = c["member_offset"], c["member_size"]
        total = np.uint64(self.shard_size)
        inside = (offset <= total) & (size <= total - np.minimum(offset, total))
        check(bool(inside.all()), "a member lies outside the shard")
        counts = np.diff(c["packet_stop"], prepend=np.uint64(0)).astype(np.int64)
        member = np.repeat(c["track_member"].astype(np.int64), counts)
        start, length = offset[member], size[member]
        before = c["packet_offset"] - np.minimum(start, c["packet_offset"])
        inside = (c["packet_offset"] >= start) & (before <= length)
        inside &= c["packet_size"] <= length - np.minimum(before, length)
        check(bool(inside.all()), "a packet lies outside its member")
        try:
            c["key_bytes"].tobytes().decode()
        except UnicodeDecodeError:
            check(False, "the keys are not UTF-8")


class _Check:
    """Collects what was expected of an index into one message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, condition: bool, what: str) -> None:
        if not condition:
            raise IndexFormatError(
                f"Index {self._path} is damaged: {what}. Rebuild the shard, or its index."
            )

    def a(self, kind: type[Any], table: Mapping[str, Any], name: str) -> Any:
        value = table.get(name)
        self(isinstance(value, kind) and not isinstance(value, bool), f"header field {name}")
        return value

    def text(self, value: object, name: str) -> str:
        self(isinstance(value, str), f"header field {name}")
        return str(value)


def _below(column: npt.NDArray[Any], limit: int) -> bool:
    return not len(column) or int(column.max()) < limit


def _parse(data: mmap.mmap, path: Path) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Slice the columns out of a safetensors file; nothing in it is trusted."""
    check = _Check(path)
    check(len(data) >= 8, "it is shorter than its own header")
    length = int.from_bytes(data[:8], "little")
    check(2 <= length <= min(len(data) - 8, MAX_HEADER_BYTES), "it is cut short or no index")
    try:
        table = json.loads(data[8 : 8 + length])
        about = json.loads(table["__metadata__"][HEADER_KEY])
    except (ValueError, KeyError, TypeError, RecursionError):
        check(False, "its header is no index header")
    check(
        isinstance(about, dict) and about.get("format") == FORMAT, "its header is no index header"
    )
    if about.get("version") != VERSION:
        raise IndexFormatError(
            f"Index {path} has version {about.get('version')!r}; this program reads {VERSION}. "
            "Rebuild the shards with this version."
        )
    columns = {}
    body = len(data) - 8 - length
    for name, dtype in COLUMNS.items():
        entry = table.get(name)
        check(isinstance(entry, dict) and entry.get("dtype") == dtype, f"column {name} is missing")
        shape, ends = entry.get("shape"), entry.get("data_offsets")
        plain = [shape, ends] if isinstance(shape, list) and isinstance(ends, list) else [[], []]
        numbers = [x for part in plain for x in part]
        check(len(numbers) == 3 and all(type(x) is int for x in numbers), f"column {name} is odd")
        rows, start, stop = numbers
        width = np.dtype(_DTYPES[dtype]).itemsize
        fits = 0 <= start <= stop <= body and stop - start == rows * width
        check(fits, f"column {name} lies outside the file")
        columns[name] = np.frombuffer(data, _DTYPES[dtype], rows, 8 + length + start)
    return columns, about


def _about_shard(about: Mapping[str, Any], check: _Check) -> tuple[str, int]:
    shard, size = check.a(str, about, "shard"), check.a(int, about, "shard_size")
    check(shard == Path(shard).name and shard not in ("", ".", ".."), "header field shard")
    check(0 <= size < 1 << 62, "header field shard_size")
    return shard, size


_HEADER_FIELDS = {f.name for f in fields(CodecHeader)}


def encode_header(header: CodecHeader) -> dict[str, Any]:
    """A codec header as plain json values."""
    plain = {name: getattr(header, name) for name in _HEADER_FIELDS}
    plain["extradata"] = base64.b64encode(header.extradata).decode()
    for name in ("time_base", "frame_rate"):
        plain[name] = str(plain[name]) if plain[name] is not None else None
    if header.transport is None:
        del plain["transport"]
    else:
        plain["transport"] = [header.transport.pid, header.transport.stride]
    return plain


def _header_fields(plain: object, check: _Check) -> dict[str, Any]:
    check(
        isinstance(plain, dict) and set(plain) | {"transport"} == _HEADER_FIELDS, "a codec header"
    )
    assert isinstance(plain, dict)
    try:
        found: dict[str, Any] = {"transport": None} | plain
        if found["transport"] is not None:
            pid, stride = found["transport"]
            found["transport"] = Transport(int(pid), int(stride))
        found["extradata"] = base64.b64decode(plain["extradata"], validate=True)
        for name in ("time_base", "frame_rate"):
            if plain[name] is not None:
                found[name] = Fraction(check.text(plain[name], "a codec header"))
        good = found["time_base"] > 0 and found["kind"] in ("video", "audio")
        good &= found["frame_rate"] is None or found["frame_rate"] > 0
        good &= all(
            type(found[n]) is int and found[n] >= 0
            for n in ("width", "height", "sample_rate_hz", "num_channels")
        )
        good &= isinstance(found["codec"], str)
    except (ValueError, TypeError, ZeroDivisionError):
        good = False
    check(bool(good), "a codec header")
    return found
