"""A data set's files in a local folder; remote_store.py is the same for a URL."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from shards.errors import IndexFormatError, ShardError
from shards.format.index import IndexedSample, ShardIndex
from shards.format.manifest import INDEX_SUFFIX, Manifest, ShardEntry, read_manifest
from shards.storage.local_files import Identity, file_sha256, open_descriptor, open_regular

CHUNK_BYTES = 8 << 20  # of a tar that is read from front to back


#: Of a shard's tar and of its index; () where a server answers for them.
Identities = tuple[Identity, ...]


class OpenShard(Protocol):
    """A shard whose samples can be read, local or remote; see `Dataset` for the methods."""

    index: ShardIndex
    identities: Identities

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """See `Dataset.read`."""

    def read_many(self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """See `Dataset.read_many`."""


class ShardFile:
    """A shard's index and file; the file closes when the last reader lets go.

    Args:
        folder: of the data set.
        entry: the shard.
        known: what its files were when they were open before; None verifies the index by checksum.

    Raises:
        ShardError: a file is not there, is no regular one, or is another one than before.
        IndexFormatError: the index is damaged, or not the one that the manifest lists.
    """

    def __init__(self, folder: Path, entry: ShardEntry, known: Identities | None) -> None:
        path = self.path = folder / entry.name
        index_path = folder / (entry.name + INDEX_SUFFIX)
        self.file = -1
        try:
            self.file = open_descriptor(path)
            if known is None and file_sha256(index_path) != entry.index_sha256:
                raise IndexFormatError(
                    f"Index {index_path} is not the one that the manifest lists: it was changed "
                    "or damaged. Build the shard again."
                )
            tar = Identity.of(self.file)
            self.index = ShardIndex(index_path, tar.size, check=known is None)
        except FileNotFoundError as error:
            raise ShardError(
                f"{error.filename} is in the manifest of {folder} but not on the disk; "
                "copy it again or build the data set again."
            ) from error
        except OSError as error:
            raise ShardError(f"{error.filename or path}: {error.strerror}.") from error
        self.identities: Identities = (tar, self.index.identity)
        if known is not None and self.identities != known:
            changed = path if known[0] != tar else index_path
            raise ShardError(
                f"{changed} is another file than when this data set was opened (size, time or "
                "inode differ): shards are not to be changed while they are read. Put the old one "
                "back, or start again with the new data set."
            )

    def read(self, sample: IndexedSample, offset: int, size: int) -> bytes:
        """See `Dataset.read`."""
        data = os.pread(self.file, size, offset)
        while len(data) < size:
            more = os.pread(self.file, size - len(data), offset + len(data))
            if not more:
                raise ShardError(
                    f"Shard {self.path} ends before byte {offset + size}; sample {sample.key} "
                    f"needs {size} bytes at {offset}. Run `gdt shards verify`."
                )
            data += more
        return data

    def read_many(self, sample: IndexedSample, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """See `Dataset.read_many`."""
        return [self.read(sample, offset, size) for offset, size in ranges]

    def __del__(self) -> None:
        if self.file >= 0:
            os.close(self.file)


class Folder:
    """The files of a data set on this machine."""

    def __init__(self, path: Path) -> None:
        self.location = path

    def manifest(self) -> Manifest:
        """See `read_manifest`."""
        return read_manifest(self.location)

    def max_open_shards(self, manifest: Manifest) -> int:
        """How many may be open at a time."""
        return len(manifest.shards)

    def shard(self, entry: ShardEntry, known: Identities | None = None) -> OpenShard:
        """Open a shard; see `ShardFile`."""
        return ShardFile(self.location, entry, known)

    def peek(self, entry: ShardEntry) -> ShardIndex:
        """A shard's index, unchecked: to look for a key in."""
        path = self.location / (entry.name + INDEX_SUFFIX)
        try:
            return ShardIndex(path, entry.size, check=False)
        except OSError as error:
            raise ShardError(f"{path}: {error.strerror}.") from error

    def check_size(self, entry: ShardEntry) -> None:
        """See that a shard's tar has the size it was written with.

        Raises:
            ShardError: it has not, or is not there.
        """
        try:
            size = (self.location / entry.name).stat().st_size
        except FileNotFoundError as error:
            raise ShardError(f"{Path(entry.name).name} is missing") from error
        if size != entry.size:
            raise ShardError(f"{size} bytes instead of {entry.size}: cut short or replaced")

    def chunks(self, entry: ShardEntry) -> Iterator[bytes]:
        """The bytes of a shard's tar, front to back."""
        with open_regular(self.location / entry.name) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
