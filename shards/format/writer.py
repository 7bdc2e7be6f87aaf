"""Write one shard: a plain tar of samples and its index, whole or not at all.

Both are written under temporary names, flushed to the disk, and renamed, the index last: a shard
without an index does not exist. The tar is plain ustar with fixed owner, mode and time, so equal
samples make equal bytes, and any WebDataset reader can read it.
"""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from shards.errors import ShardError
from shards.format.index_file import COLUMNS, FORMAT, HEADER_KEY, VERSION, encode_header
from shards.format.manifest import INDEX_SUFFIX, ShardEntry
from shards.format.sample import check_key
from shards.format.tracks import CodecHeader, TrackTable
from shards.storage.local_files import flush_to_disk, write_atomically

_NUMPY = {"U8": "u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I64": "<i8"}


class _Digested:
    """A file that is written front to back, with the SHA-256 of all that went through."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.tell = file.tell
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return int(self._file.write(data))


class IndexColumns:
    """Gather the columns of an index, sample by sample."""

    def __init__(self) -> None:
        self._rows: dict[str, list[Any]] = {name: [] for name in COLUMNS}
        self._extensions: dict[str, int] = {}
        self._headers: dict[CodecHeader, int] = {}
        self._key_bytes = bytearray()
        self._keys: set[str] = set()
        self._num_packets = 0

    def __len__(self) -> int:
        return len(self._keys)

    def add(
        self,
        key: str,
        members: Mapping[str, tuple[int, int, int]],
        tracks: Sequence[TrackTable],
    ) -> None:
        """Add a sample: members as extension → (offset, size, crc32), tracks relative to them."""
        if key in self._keys:
            raise ShardError(f"Key {key!r} is in the shard twice; keys are unique in a data set.")
        self._keys.add(key)
        rows = self._rows
        self._key_bytes += key.encode()
        rows["key_stop"].append(len(self._key_bytes))
        numbers = {}
        for extension, (offset, size, crc32) in members.items():
            numbers[extension] = len(rows["member_offset"])
            kind = self._extensions.setdefault(extension, len(self._extensions))
            rows["member_extension"].append(kind)
            rows["member_offset"].append(offset)
            rows["member_size"].append(size)
            rows["member_crc32"].append(crc32)
        rows["member_stop"].append(len(rows["member_offset"]))
        for track in tracks:
            rows["track_member"].append(numbers[track.member])
            rows["track_header"].append(self._headers.setdefault(track.header, len(self._headers)))
            rows["track_start"].append(track.start)
            rows["track_end"].append(track.stop)
            self._num_packets += len(track.pts)
            rows["packet_stop"].append(self._num_packets)
            rows["packet_offset"].append(track.offset + np.uint64(members[track.member][0]))
            for name in ("size", "pts", "duration", "crc32", "flags"):
                rows[f"packet_{name}"].append(getattr(track, name))
        rows["track_stop"].append(len(rows["track_member"]))

    def to_bytes(self, shard: str, shard_size: int) -> bytes:
        """The index file of a shard of this name and size."""
        columns = {}
        for name, dtype in COLUMNS.items():
            rows = self._rows[name]
            kind = np.dtype(_NUMPY[dtype])
            if name == "key_bytes":
                columns[name] = np.frombuffer(bytes(self._key_bytes), np.uint8)
            elif rows and isinstance(rows[0], np.ndarray):
                columns[name] = np.concatenate(rows).astype(kind)
            else:
                columns[name] = np.array(rows, kind)
        about = {
            "format": FORMAT,
            "version": VERSION,
            "shard": shard,
            "shard_size": shard_size,
            "extensions": list(self._extensions),
            "headers": [encode_header(h) for h in self._headers],
        }
        return save(columns, metadata={HEADER_KEY: json.dumps(about, sort_keys=True)})


class ShardWriter:
    """Write the shard `path` (its `.index` beside it); `finish` gives it its name, `discard` ends.

    Until then only `path` + ".tmp" exists. As a context manager it discards what is not finished.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._file = self._temporary.open("wb")
        self._digested = _Digested(self._file)
        stream: Any = self._digested  # tarfile asks only for write and tell
        self._tar = tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT)
        self._index = IndexColumns()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if not self._file.closed:
            self.discard()

    def __len__(self) -> int:
        return len(self._index)

    def add(self, key: str, members: Mapping[str, bytes], tracks: Sequence[TrackTable]) -> None:
        """Append one sample: members by extension, in this order, and their tracks."""
        check_key(key)
        places = {}
        for extension, data in members.items():
            entry = tarfile.TarInfo(f"{key}.{extension}")
            entry.size, entry.mode = len(data), 0o444
            self._tar.addfile(entry, io.BytesIO(data))
            padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            places[extension] = (self._file.tell() - padded, len(data), zlib.crc32(data))
        self._index.add(key, places, tracks)

    def finish(self) -> ShardEntry:
        """Flush, rename the tar, then the index; returns what the manifest says of the shard."""
        self._tar.close()
        size = self._file.tell()
        flush_to_disk(self._file)
        self._file.close()
        index = self._index.to_bytes(self.path.name, size)
        self._temporary.rename(self.path)
        write_atomically(self.path.with_name(self.path.name + INDEX_SUFFIX), index)
        return ShardEntry(
            name=self.path.name,
            size=size,
            sha256=self._digested.sha256.hexdigest(),
            num_samples=len(self),
            index_size=len(index),
            index_sha256=hashlib.sha256(index).hexdigest(),
        )

    def discard(self) -> None:
        """Drop what was written."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
