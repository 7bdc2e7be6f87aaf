"""A remote data set: http(s), S3 or any other URL that fsspec speaks, read by byte range.

    read_many ─► RangeCache ─► what is missing, near ranges as one ─► Transfer, all at once
              ◄─ checksums of packets and members ◄─────────────────┘

Opening costs one request, a shard's index one more (kept on disk and read from there), and then a
sample's ranges one each, or fewer. Nothing in memory grows with use; the disk is bounded, see
`RemoteOptions`. What is handed out was verified wherever a checksum covers it.
"""

import hashlib
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from shards.errors import ChecksumError, IndexFormatError, RemoteError
from shards.format.index import IndexedSample, ShardIndex
from shards.format.manifest import INDEX_SUFFIX, MANIFEST_NAME, Manifest, ShardEntry, parse_manifest
from shards.reading.local_store import CHUNK_BYTES, Identities
from shards.storage.byte_ranges import Piece, assemble, joined, missing
from shards.storage.cache import FileCache, RangeCache
from shards.storage.transfer import RemoteFile, RemoteOptions, Traffic, Transfer
from shards.storage.urls import public

_FETCHES = 3  # of the same bytes, while their checksum is wrong


class RemoteStore:
    """The files of a data set under one URL.

    Args:
        url: of the folder that holds the manifest.
        options: cache, retries, connections.
    """

    def __init__(self, url: str, options: RemoteOptions) -> None:
        self.url, self.options = url.rstrip("/"), options
        if "?" in url or "#" in url:
            raise RemoteError(
                f"{public(url)}: a URL with '?' or '#' names one file, not a folder of shards; "
                "give credentials by the environment or storage_options."
            )
        self.location = public(self.url)
        self._transfer = Transfer(self.url, options)
        folder = Path(options.cache_folder) if options.cache_folder else default_cache_folder()
        self._indexes = FileCache(folder / "indexes", options.index_cache_bytes)
        self._ranges = RangeCache(folder / "ranges", options.range_cache_bytes)

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes of this process so far."""
        return self._transfer.traffic

    def manifest(self) -> Manifest:
        """The manifest as it is now.

        Raises:
            RemoteError: it cannot be had; a RemoteMissingError where it is not there.
            IndexFormatError: it is damaged.
        """
        file = RemoteFile(self.file_url(MANIFEST_NAME))
        try:
            data = self._transfer.fetch_file(file)
        except RemoteError as error:
            raise type(error)(
                f"No data set could be opened at {self.location}. {error} The URL has to be that "
                f"of the folder with {MANIFEST_NAME}, for example …/train.",
                error.cause,
            ) from error
        return parse_manifest(data, public(file.url))

    def max_open_shards(self, manifest: Manifest) -> int:
        """How many indexes may be open at a time, for them to fit their part of the cache."""
        largest = max((shard.index_size for shard in manifest.shards), default=1)
        return max(1, self.options.index_cache_bytes // max(1, largest))

    def shard(self, entry: ShardEntry, known: Identities | None = None) -> "RemoteShard":
        """Open a shard: its index from the cache or the server, verified in any case.

        Raises:
            RemoteError: the index cannot be had.
            IndexFormatError: it is not the one that the manifest lists, or is damaged.
        """
        url = self.file_url(entry.name + INDEX_SUFFIX)
        for _ in range(_FETCHES):
            path = self._indexes.get(
                entry.index_sha256, entry.index_size, lambda: self._fetch_index(entry, url)
            )
            try:
                index = ShardIndex(path, entry.size, is_cached=True)
            except FileNotFoundError:
                continue  # another process made room with it
            except IndexFormatError as error:
                raise IndexFormatError(f"{public(url)}: {error}") from error
            return RemoteShard(self, entry, index)
        raise RemoteError(
            f"{public(url)} left the cache {path.parent} as soon as it was kept there: raise "
            "index_cache_bytes."
        )

    def check_size(self, entry: ShardEntry) -> None:
        """See that a shard's tar is there, of the size it was written with; one byte is fetched.

        Raises:
            RemoteError: it is not.
        """
        file = RemoteFile(self.file_url(entry.name), entry.size)
        self._transfer.fetch(file, [(max(0, entry.size - 1), entry.size)])

    def chunks(self, entry: ShardEntry) -> Iterator[bytes]:
        """The bytes of a shard's tar, front to back, one range after the other.

        Raises:
            RemoteError: they cannot be had.
        """
        file = RemoteFile(self.file_url(entry.name), entry.size)
        for start in range(0, entry.size, CHUNK_BYTES):
            stop = min(entry.size, start + CHUNK_BYTES)
            yield self._transfer.fetch(file, [(start, stop)])[0].data

    def file_url(self, name: str) -> str:
        """Of one of its files; only in http URLs are characters escaped."""
        return f"{self.url}/{quote(name) if self.url.startswith('http') else name}"

    def _fetch_index(self, entry: ShardEntry, url: str) -> bytes:
        for _ in range(_FETCHES):
            data = self._transfer.fetch_file(RemoteFile(url, entry.index_size))
            digest = hashlib.sha256(data).hexdigest()
            if digest == entry.index_sha256:
                return data
        raise IndexFormatError(
            f"{public(url)} is not the index that the manifest lists (SHA-256 {digest}, manifest "
            f"{entry.index_sha256}): it was changed or damaged. Upload the shard, its index and "
            "the manifest anew, and open the data set again."
        )


class RemoteShard:
    """One remote shard, with its index read from the cache."""

    def __init__(self, store: RemoteStore, entry: ShardEntry, index: ShardIndex) -> None:
        self.index = index
        self.identities: Identities = ()
        self._store, self._name = store, entry.name
        self._file = RemoteFile(store.file_url(entry.name), entry.size)
        self._cache_key = entry.index_sha256[:32]

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """See `Dataset.read`."""
        return self.read_many(sample, [(offset, size)])[0]

    def read_many(self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """See `Dataset.read_many`."""
        wanted = [(offset, offset + size) for offset, size in ranges]
        outside = [r for r in wanted if not 0 <= r[0] <= r[1] <= self.index.shard_size]
        if outside:
            raise RemoteError(
                f"{public(self._file.url)}: bytes {outside[0][0]} to {outside[0][1] - 1} were "
                f"asked for, and the shard has {self.index.shard_size}."
            )
        first = min((m.offset for m in sample.members.values()), default=0)
        place = f"{self._cache_key}/{first:x}"
        store = self._store
        wrong = ""
        for _ in range(_FETCHES):
            kept = store._ranges.get(place, wanted)
            gaps = missing(wanted, kept)
            fetched = store._transfer.fetch(self._file, joined(gaps, store.options.merge_gap_bytes))
            pieces = sorted([*kept, *fetched])
            bodies = [assemble(start, stop, pieces) for start, stop in wanted]
            wrong = next(_wrong_checksums(sample, wanted, bodies), "")
            if not wrong:
                self._keep(place, fetched)
                missed = sum(stop - start for start, stop in gaps)
                store.traffic.bytes_from_cache += sum(map(len, bodies)) - missed
                return bodies
            store._ranges.forget(place)
        raise ChecksumError(
            f"{public(self._file.url)}: {wrong}, after {_FETCHES} fetches. The shard was changed "
            "or damaged: run `gdt shards verify` where it lies, and upload it anew."
        )

    def _keep(self, place: str, pieces: Sequence[Piece]) -> None:
        try:
            for piece in pieces:
                self._store._ranges.put(place, piece)
        except OSError as error:
            warnings.warn(
                f"The cache {error.filename} cannot be written ({error.strerror}); ranges are "
                "fetched each time. Make room, or set range_cache_bytes = 0.",
                stacklevel=2,
            )


def default_cache_folder() -> Path:
    """`gdt-stream` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gdt-stream"


def _wrong_checksums(
    sample: IndexedSample, ranges: Sequence[tuple[int, int]], bodies: Sequence[bytes]
) -> Iterator[str]:
    """Say which packets and members that lie whole in a range are not what was indexed."""
    for (start, stop), body in zip(ranges, bodies, strict=True):
        data = memoryview(body)
        for member in sample.members.values():
            if start <= member.offset and member.offset + member.size <= stop:
                got = zlib.crc32(data[member.offset - start :][: member.size])
                if got != member.crc32:
                    yield (
                        f"member {sample.key}.{member.extension}, {member.size} bytes at "
                        f"{member.offset}, has crc32 {got:08x}, the index says {member.crc32:08x}"
                    )
        for track in (sample.video, sample.audio):
            if track is None or track.transport is not None:
                continue  # packets in pieces: the reader above joins and verifies them
            offsets, sizes = track.packets.offset, track.packets.size
            whole = np.flatnonzero((offsets >= start) & (offsets + sizes <= stop))
            for i in whole.tolist():
                offset, size = int(offsets[i]), int(sizes[i])
                got, expected = zlib.crc32(data[offset - start :][:size]), track.packets.crc32[i]
                if got != expected:
                    yield (
                        f"{track.kind} packet {i} of {sample.key}, {size} bytes at {offset}, has "
                        f"crc32 {got:08x}, the index says {expected:08x}"
                    )
