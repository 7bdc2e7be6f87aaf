"""A built data set: its samples by number, their bytes by offset. Many threads may read at once.

Opening reads the manifest alone; a shard's index is checked when one of its samples is first asked
for, and from then on read row by row: memory does not grow with the number of samples. Shards are
kept open up to a limit, so ten thousand need no ten thousand files.
"""

import bisect
import os
import resource
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from shards.errors import ChecksumError, IndexFormatError, ShardError
from shards.format.index import IndexedSample, Member
from shards.format.json_text import third_party_json
from shards.format.manifest import INDEX_SUFFIX, Manifest
from shards.plural import plural
from shards.reading.local_store import Folder, Identities, OpenShard
from shards.reading.remote_store import RemoteStore
from shards.storage.byte_ranges import Piece, assemble
from shards.storage.transfer import RemoteOptions, Traffic
from shards.storage.urls import folder_or_url


class Dataset:
    """The samples of one folder of shards, numbered through.

    Use `Dataset.open(path)`. Copies sent to another process open their files anew.

    Attributes:
        path: the folder, or its URL (without the credentials in it).
        manifest: what it consists of.
    """

    def __init__(
        self, store: Folder | RemoteStore, manifest: Manifest, max_open_shards: int
    ) -> None:
        self.path: Path | str = store.location
        self.manifest = manifest
        self._store = store
        self._stops = list(accumulate(s.num_samples for s in manifest.shards))
        self._numbers = {s.name: i for i, s in enumerate(manifest.shards)}
        self._max_open = max_open_shards
        self._open: OrderedDict[int, OpenShard] = OrderedDict()
        self._opening: dict[int, threading.Lock] = {}
        self._known: dict[int, Identities] = {}
        self._lock = threading.Lock()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        max_open_shards: int = 16_384,
        remote: RemoteOptions | None = None,
    ) -> "Dataset":
        """Open the data set in folder `path`, or under a URL (http, https, s3, file, …).

        Args:
            path: where its manifest lies.
            max_open_shards: how many shards are kept open at a time.
            remote: cache, retries and connections, where `path` is a URL.

        Raises:
            IndexFormatError: there is no finished data set, or it is damaged.
            RemoteError: the server does not give it.
        """
        place = folder_or_url(path)
        store: Folder | RemoteStore
        if isinstance(place, str):
            store = RemoteStore(place, remote or RemoteOptions())
        else:
            store = Folder(place)
        manifest = store.manifest()
        wanted = min(max_open_shards, store.max_open_shards(manifest))
        allowed = _raise_file_limit(2 * wanted + 64)
        return cls(store, manifest, min(wanted, max(8, (allowed - 64) // 2)))

    def __reduce__(self) -> Any:
        if isinstance(self._store, RemoteStore):
            return (Dataset.open, (self._store.url, self._max_open, self._store.options))
        return (Dataset.open, (self.path, self._max_open))

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __repr__(self) -> str:
        held = f"{plural(len(self), 'sample')} in {plural(len(self._stops), 'shard')}"
        return f"Dataset({self.path}: {held})"

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

    def find(self, key: str) -> int:
        """The number of the sample with this key; looks through the shards one by one.

        Raises:
            ShardError: no sample has it.
        """
        if isinstance(self._store, Folder):  # unchecked at first: only what holds it is checked
            for number, entry in enumerate(self.manifest.shards):
                seen = self._store.peek(entry).find(key) is not None
                if seen and (i := self._find_in(number, key)) is not None:
                    return i
        for number in range(len(self.manifest.shards)):
            if (i := self._find_in(number, key)) is not None:
                return i
        example = self.sample(0).key if len(self) else "(it has no samples)"
        raise ShardError(f"{self.path} has no sample with the key {key!r}; its first is {example}.")

    def _find_in(self, shard: int, key: str) -> int | None:
        i = self._shard(shard).index.find(key)
        return (
            None if i is None else self._stops[shard] - self.manifest.shards[shard].num_samples + i
        )

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """`size` bytes at `offset` of the sample's shard (packet offsets are of this kind).

        Raises:
            ShardError: the shard ends before that.
        """
        return self._shard(self._numbers[sample.shard]).read(sample, offset, size)

    def read_many(self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of several (offset, size) ranges, in their order; each as from `read`.

        From a server they are asked for at once, and near ones as one.
        """
        return self._shard(self._numbers[sample.shard]).read_many(sample, ranges)

    def reader(
        self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]
    ) -> Callable[[int, int], bytes]:
        """`read` for one sample, (offset, size) → bytes, that will be asked for `ranges`.

        From a server these are fetched here, at once; what else is asked for later costs a request.
        On this machine nothing is read before it is asked for.
        """
        if not self.is_remote:
            return partial(self.read, sample)
        bodies = self.read_many(sample, ranges)
        pieces = sorted(Piece(r[0], body) for r, body in zip(ranges, bodies, strict=True))

        def read(offset: int, size: int) -> bytes:
            try:
                return assemble(offset, offset + size, pieces)
            except ValueError:
                return self.read(sample, offset, size)

        return read

    @property
    def is_remote(self) -> bool:
        """Whether its bytes come from a server."""
        return isinstance(self._store, RemoteStore)

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes from a server since it was opened; none on this machine."""
        return self._store.traffic if isinstance(self._store, RemoteStore) else Traffic()

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
                f"Shard {self.path}/{sample.shard}: member {sample.key}.{extension} is not what "
                f"was written (crc32 {zlib.crc32(data):08x}, index {member.crc32:08x}). "
                "Run `gdt shards verify`, and build the shard again."
            )
        return data

    def metadata(self, i: int) -> dict[str, Any]:
        """The json member of sample i: source, times, labels; empty where there is none.

        What tars of others have as members of their own is added: .cls as label, .txt as caption.
        """
        sample = self.sample(i)
        content: Any = {}
        if "json" in sample.members:
            try:
                content = third_party_json(self.read_member(sample, "json"))
            except ValueError as error:
                raise ShardError(
                    f"Sample {sample.key} of {sample.shard}: its json cannot be read ({error})."
                ) from error
        if not isinstance(content, dict):
            raise ShardError(f"Sample {sample.key} of {sample.shard}: its json is not an object.")
        for extension, name in (("cls", "label"), ("txt", "caption")):
            if extension in sample.members and name not in content:
                text = self.read_member(sample, extension).decode("utf-8", "replace")
                content[name] = text.strip()
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

    def _shard(self, number: int) -> OpenShard:
        with self._lock:
            found = self._open.get(number)
            if found is not None:
                self._open.move_to_end(number)
                return found
            opening = self._opening.setdefault(number, threading.Lock())
        with opening:  # the others who want this shard wait here, and nobody else does
            with self._lock:
                found = self._open.get(number)
            if found is not None:
                return found
            entry = self.manifest.shards[number]
            try:
                found = self._store.shard(entry, self._known.get(number))
                if len(found.index) != entry.num_samples:
                    raise IndexFormatError(
                        f"Index {self.path}/{entry.name}{INDEX_SUFFIX} has {len(found.index)} "
                        f"samples; the manifest says {entry.num_samples}. Build the shard again."
                    )
                found.index.shard = entry.name  # of merged data sets, with the folder it lies in
            except BaseException:
                self._opening.pop(number, None)
                raise
            with self._lock:
                self._opening.pop(number, None)
                self._known[number] = found.identities
                self._open[number] = found
                if len(self._open) > self._max_open:
                    self._open.popitem(last=False)
            return found


def _raise_file_limit(wanted: int) -> int:
    """Let this process open `wanted` files if the system allows; returns how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return wanted if soft == resource.RLIM_INFINITY else soft
