"""A built data set: its samples by number, their bytes by offset. Many threads may read at once.

Opening reads the manifest alone; a shard's index is mapped and checked when one of its samples is
first asked for. Shards are kept open up to a limit, so ten thousand need no ten thousand files.
"""

import bisect
import json
import os
import resource
import threading
import zlib
from collections import OrderedDict
from itertools import accumulate
from pathlib import Path
from typing import Any

from shards.errors import ChecksumError, IndexFormatError, ShardError
from shards.index import IndexedSample, Member, ShardIndex
from shards.manifest import Manifest, read_manifest
from shards.writer import INDEX_SUFFIX, ShardEntry, file_sha256


class _OpenShard:
    """A shard's index and file; the file closes when the last reader lets go."""

    def __init__(self, folder: Path, entry: ShardEntry, verify_index: bool) -> None:
        path = folder / entry.name
        index_path = folder / (entry.name + INDEX_SUFFIX)
        self.file = -1
        try:
            self.file = os.open(path, os.O_RDONLY)
            if verify_index and file_sha256(index_path) != entry.index_sha256:
                raise IndexFormatError(
                    f"Index {index_path} is not the one that the manifest lists: it was changed "
                    "or damaged. Build the shard again."
                )
            self.index = ShardIndex(index_path, os.fstat(self.file).st_size)
        except FileNotFoundError as error:
            raise ShardError(
                f"{error.filename} is in the manifest of {folder} but not on the disk; "
                "copy it again or build the data set again."
            ) from error
        if len(self.index) != entry.num_samples:
            raise IndexFormatError(
                f"Index {index_path} has {len(self.index)} samples; the manifest says "
                f"{entry.num_samples}. Build the shard again."
            )

    def __del__(self) -> None:
        if self.file >= 0:
            os.close(self.file)


class DataSet:
    """The samples of one folder of shards, numbered through.

    Use `DataSet.open(path)`. Copies sent to another process open their files anew.
    """

    def __init__(self, path: Path, manifest: Manifest, max_open_shards: int) -> None:
        self.path = path
        self.manifest = manifest
        self._stops = list(accumulate(s.num_samples for s in manifest.shards))
        self._numbers = {s.name: i for i, s in enumerate(manifest.shards)}
        self._max_open = max_open_shards
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()
        self._verified: set[int] = set()
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], max_open_shards: int = 4096) -> "DataSet":
        """Open the data set in folder `path`.

        Raises:
            IndexFormatError: there is no finished data set, or it is damaged.
        """
        folder = Path(path)
        manifest = read_manifest(folder)
        allowed = _raise_file_limit(2 * min(max_open_shards, len(manifest.shards)) + 64)
        return cls(folder, manifest, max(8, min(max_open_shards, (allowed - 64) // 2)))

    def __reduce__(self) -> Any:
        return (DataSet.open, (self.path, self._max_open))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __repr__(self) -> str:
        return f"DataSet({self.path}: {len(self)} samples in {len(self._stops)} shards)"

    @property
    def fingerprint(self) -> str:
        """Hex digest that changes when any shard does."""
        return self.manifest.fingerprint

    def sample(self, i: int) -> IndexedSample:
        """Sample i, 0 ≤ i < len, in shard order."""
        if not 0 <= i < len(self):
            raise IndexError(f"{self.path} has samples 0 to {len(self) - 1}; asked for {i}.")
        number = bisect.bisect_right(self._stops, i)
        first = self._stops[number - 1] if number else 0
        return self._shard(number).index.sample(i - first)

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of the sample's shard (packet offsets are of this kind).

        Raises:
            ShardError: the shard ends before that.
        """
        shard = self._shard(self._numbers[sample.shard])
        data = os.pread(shard.file, size, offset)
        while len(data) < size:
            more = os.pread(shard.file, size - len(data), offset + len(data))
            if not more:
                raise ShardError(
                    f"Shard {self.path / sample.shard} ends at byte {offset + len(data)}; sample "
                    f"{sample.key} needs {size} bytes at {offset}. Run `gdt shards verify`."
                )
            data += more
        return data

    def read_member(self, sample: IndexedSample, extension: str) -> bytes:
        """A whole member, its checksum verified.

        Raises:
            ShardError: the sample has no such member.
            ChecksumError: its bytes are not those that were written.
        """
        member: Member | None = sample.members.get(extension)
        if member is None:
            raise ShardError(
                f"Sample {sample.key} of {sample.shard} has no .{extension}; "
                f"it has {', '.join('.' + e for e in sample.members)}."
            )
        data = self.read(sample, member.offset, member.size)
        if zlib.crc32(data) != member.crc32:
            raise ChecksumError(
                f"Shard {self.path / sample.shard}: member {sample.key}.{extension} is not what "
                f"was written (crc32 {zlib.crc32(data):08x}, index {member.crc32:08x}). "
                "Run `gdt shards verify`, and build the shard again."
            )
        return data

    def metadata(self, i: int) -> dict[str, Any]:
        """The json member of sample i: source, times, labels; empty where there is none."""
        sample = self.sample(i)
        if "json" not in sample.members:
            return {}
        content = json.loads(self.read_member(sample, "json"))
        if not isinstance(content, dict):
            raise ShardError(f"Sample {sample.key} of {sample.shard}: its json is no object.")
        return content

    def summary(self) -> dict[str, Any]:
        """Counts for people: samples, shards, bytes, fingerprint, build options."""
        return {
            "path": str(self.path),
            "samples": len(self),
            "shards": len(self.manifest.shards),
            "bytes": sum(s.size for s in self.manifest.shards),
            "fingerprint": self.fingerprint,
            "build": self.manifest.build,
        }

    def _shard(self, number: int) -> _OpenShard:
        with self._lock:
            found = self._open.get(number)
            if found is None:
                entry = self.manifest.shards[number]
                found = _OpenShard(self.path, entry, number not in self._verified)
                self._verified.add(number)
                self._open[number] = found
                if len(self._open) > self._max_open:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(number)
            return found


def _raise_file_limit(wanted: int) -> int:
    """Let this process open `wanted` files if the system allows; returns how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return wanted if soft == resource.RLIM_INFINITY else soft
