"""The file format of `{shard}.index`: its columns, its header, and the checks that both must pass.

A safetensors file of plain number columns with one json string in its header. Nothing in it is
trusted: after `read_header` and `check_columns`, every row is within its column, every packet
within its member, and every member within the shard.

Legend: N samples, M members, T tracks, P packets. `*_stop[i]` is where the rows of i end; they
begin where those of i - 1 end.
"""

import base64
import os
import re
from collections.abc import Mapping
from dataclasses import fields
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from shards.errors import IndexFormatError
from shards.format.json_text import plain_json
from shards.format.mpegts import Transport
from shards.format.tracks import CodecHeader

FORMAT, VERSION = "gdt-shard-index", 1
HEADER_KEY = "gdt_shard_index"  # one metadata entry: several would be written in random order
MAX_HEADER_BYTES = 1 << 24
_LINE_ENDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")

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
_DTYPES: dict[str, np.dtype[Any]] = {
    "U8": np.dtype("u1"),
    "U16": np.dtype("<u2"),
    "U32": np.dtype("<u4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
}


class Check:
    """Collect what was expected of an index into one message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, condition: bool, what: str) -> None:
        """Refuse the index unless the condition holds."""
        if not condition:
            raise IndexFormatError(
                f"Index {self._path} is damaged: {what}. Rebuild the shard, or its index."
            )

    def a(self, kind: type[Any], table: Mapping[str, Any], name: str) -> Any:
        """The entry of this name, which must be of this kind."""
        value = table.get(name)
        self(isinstance(value, kind) and not isinstance(value, bool), f"header field {name}")
        return value

    def text(self, value: object, name: str) -> str:
        """The value, which must be text."""
        self(isinstance(value, str), f"header field {name}")
        return str(value)


def check_columns(
    c: Mapping[str, npt.NDArray[Any]],
    shard_size: int,
    num_extensions: int,
    in_pieces: npt.NDArray[np.bool_],
    check: Check,
) -> None:
    """Refuse columns that do not fit each other, or reach outside a shard of this size.

    `in_pieces` says of each codec header whether packets under it lie in pieces, among others'.
    """
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
    check(_below(c["member_extension"], num_extensions), "an extension is not listed")
    check(_below(c["track_header"], len(in_pieces)), "a codec header is not listed")
    check(_below(c["track_member"], m), "a track's member does not exist")
    offset, size = c["member_offset"], c["member_size"]
    total = np.uint64(shard_size)
    inside = (offset <= total) & (size <= total - np.minimum(offset, total))
    check(bool(inside.all()), "a member lies outside the shard")
    counts = np.diff(c["packet_stop"], prepend=np.uint64(0)).astype(np.int64)
    member = np.repeat(c["track_member"].astype(np.int64), counts)
    start, length = offset[member], size[member]
    before = c["packet_offset"] - np.minimum(start, c["packet_offset"])
    inside = (c["packet_offset"] >= start) & (before <= length)
    inside &= c["packet_size"] <= length - np.minimum(before, length)
    check(bool(inside.all()), "a packet lies outside its member")
    track = np.repeat(np.arange(t), counts)
    whole = ~in_pieces[c["track_header"]][track]
    twice = overlap(c["packet_offset"][whole], c["packet_size"][whole], track[whole])
    check(not twice, "packets overlap")
    _check_keys(c["key_bytes"], c["key_stop"], check)


def _check_keys(text: npt.NDArray[np.uint8], stops: npt.NDArray[np.uint64], check: Check) -> None:
    begins = text[stops[:-1][stops[:-1] < len(text)]]
    check(not ((begins & 0xC0) == 0x80).any(), "a key ends within a character")
    try:
        keys = text.tobytes().decode()
    except UnicodeDecodeError:
        check(False, "the keys are not UTF-8")
    check(_LINE_ENDS.search(keys) is None, "a key holds a line end or a control character")


def overlap(
    offset: npt.NDArray[np.uint64], size: npt.NDArray[np.uint32], track: npt.NDArray[np.int64]
) -> bool:
    """Whether any two of these packets of one track share a byte: what one reads, all would."""
    stop = offset + size
    if not ((offset[1:] < stop[:-1]) & (track[1:] == track[:-1])).any():
        return False  # in order, as nearly all are: nothing to sort
    order = np.lexsort((offset, track))
    offset, track = offset[order], track[order]
    stop = stop[order]
    return bool(((offset[1:] < stop[:-1]) & (track[1:] == track[:-1])).any())


def _below(column: npt.NDArray[Any], limit: int) -> bool:
    return not len(column) or int(column.max()) < limit


class Place(NamedTuple):
    """Where a column lies in the file: its first byte and its rows."""

    offset: int
    rows: int
    dtype: np.dtype[Any]


def read_header(file: FileIO, path: Path) -> tuple[dict[str, Place], dict[str, Any]]:
    """Where the columns of an index lie, and what its header says; all places are in the file.

    Raises:
        IndexFormatError: it is no index of this version.
    """
    check = Check(path)
    total = file.seek(0, os.SEEK_END)
    file.seek(0)
    check(total >= 8, "it is shorter than its own header")
    length = int.from_bytes(file.read(8), "little")
    check(2 <= length <= min(total - 8, MAX_HEADER_BYTES), "it is cut short or not an index")
    try:
        table = plain_json(file.read(length))
        about = plain_json(table["__metadata__"][HEADER_KEY])
    except (ValueError, KeyError, TypeError):
        check(False, "its header is not an index header")
    check(
        isinstance(about, dict) and about.get("format") == FORMAT,
        "its header is not an index header",
    )
    if about.get("version") != VERSION:
        raise IndexFormatError(
            f"Index {path} has version {about.get('version')!r}; this program reads {VERSION}. "
            "Rebuild the shards with this version."
        )
    places = {}
    body = total - 8 - length
    for name, kind in COLUMNS.items():
        entry = table.get(name)
        check(isinstance(entry, dict) and entry.get("dtype") == kind, f"column {name} is missing")
        shape, ends = entry.get("shape"), entry.get("data_offsets")
        plain = [shape, ends] if isinstance(shape, list) and isinstance(ends, list) else [[], []]
        numbers = [x for part in plain for x in part]
        check(len(numbers) == 3 and all(type(x) is int for x in numbers), f"column {name} is odd")
        rows, start, stop = numbers
        dtype = _DTYPES[kind]
        fits = 0 <= start <= stop <= body and stop - start == rows * dtype.itemsize
        check(fits, f"column {name} lies outside the file")
        places[name] = Place(8 + length + start, rows, dtype)
    return places, about


def shard_of(about: Mapping[str, Any], check: Check) -> tuple[str, int]:
    """The name and size of the tar that an index is of."""
    shard, size = check.a(str, about, "shard"), check.a(int, about, "shard_size")
    check(shard == Path(shard).name and shard not in ("", ".", ".."), "header field shard")
    check(0 <= size < 1 << 62, "header field shard_size")
    return shard, size


_FRACTION = re.compile(r"([0-9]{1,12})(?:/([0-9]{1,12}))?")


def _fraction(text: str) -> Fraction:
    """A plain fraction; never a number so long that reading it takes for ever."""
    match = _FRACTION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    return Fraction(int(match[1]), int(match[2] or 1))


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


def decode_header(plain: object, check: Check) -> dict[str, Any]:
    """A codec header's fields from its json values."""
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
                found[name] = _fraction(check.text(plain[name], "a codec header"))
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
