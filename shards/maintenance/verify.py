"""Verify a data set: every byte of every shard against what was recorded when it was written.

The manifest holds a SHA-256 of each tar and index, so no changed byte goes unseen; the checksums of
members and packets then say what is damaged. Reads in order, at the speed of disk or network.
"""

import hashlib
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shards.errors import RemoteError, RemoteMissingError, ShardError
from shards.format.index import IndexedSample, ShardIndex
from shards.format.manifest import Manifest, ShardEntry
from shards.plural import plural
from shards.reading.local_store import Folder
from shards.reading.remote_store import RemoteStore
from shards.storage.local_files import file_sha256
from shards.storage.transfer import RemoteOptions
from shards.storage.urls import folder_or_url

PARTS = ("train", "val")


@dataclass(frozen=True)
class Problem:
    """Something that is not as it was written; `key` where one sample is meant."""

    shard: str
    what: str
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.shard}{f', sample {self.key}' if self.key else ''}: {self.what}"


@dataclass
class Verification:
    """What was verified, and the problems found (none: all is as it was written)."""

    shards: int = 0
    samples: int = 0
    bytes_read: int = 0
    problems: list[Problem] = field(default_factory=list)


def verify(
    data_set: Path | str,
    *,
    quick: bool = False,
    num_threads: int = 1,
    remote: RemoteOptions | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verification:
    """Verify a data set.

    Args:
        data_set: its folder or URL, or that of a build's target with train and val in it.
        quick: sizes, indexes and the number of keys only; the tars are not read.
        num_threads: shards verified at a time.
        remote: connections, attempts and cache, for a URL.
        progress: called with bytes done and bytes to do.

    Raises:
        IndexFormatError: there is no data set, or its manifest is damaged.
        RemoteError: its manifest cannot be had; of train and val, one may be absent.
    """
    result = Verification()
    files = open_data_sets(data_set, remote)
    work = [(place, entry) for place, manifest in files for entry in manifest.shards]
    total = sum(entry.size for _, entry in work)
    keys: dict[str, list[npt.NDArray[np.uint64]]] = {}
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        for (place, entry), (problems, hashes) in zip(
            work, pool.map(lambda item: _verify_shard(item[0], item[1], quick), work), strict=True
        ):
            result.problems += problems
            result.shards += 1
            result.samples += len(hashes)
            result.bytes_read += 0 if quick else entry.size
            keys.setdefault(f"{place.location}", []).append(hashes)
            progress(result.bytes_read, total)
    for location, parts in keys.items():
        found = np.concatenate(parts)
        if len(np.unique(found)) < len(found):
            result.problems.append(Problem(location, "a key is used more than once"))
    return result


def open_data_sets(
    given: Path | str, remote: RemoteOptions | None = None
) -> list[tuple[Folder | RemoteStore, Manifest]]:
    """The data set here, or those in train and val, each with its manifest.

    Raises:
        IndexFormatError: there is none, or a manifest is damaged.
        RemoteError: a manifest cannot be had. Of train and val, one may be absent, if the server
            says so: one that it does not give may be there.
    """
    place = folder_or_url(given)
    if isinstance(place, Path):
        parts = [place / part for part in PARTS if (place / part).is_dir()]
        return [(store, store.manifest()) for store in map(Folder, parts or [place])]
    options = remote or RemoteOptions()
    whole = RemoteStore(place, options)
    try:
        return [(whole, whole.manifest())]
    except RemoteError as error:
        found: list[tuple[Folder | RemoteStore, Manifest]] = []
        for part in PARTS:
            store = RemoteStore(f"{place.rstrip('/')}/{part}", options)
            try:
                found.append((store, store.manifest()))
            except RemoteMissingError:
                continue
            except RemoteError as unknown:
                raise RemoteError(
                    f"{unknown} Whether there is a data set is not known; if there shall be none, "
                    "name the other one's URL alone.",
                    unknown.cause,
                ) from unknown
        if not found:
            raise error
        return found


def _verify_shard(
    place: Folder | RemoteStore, entry: ShardEntry, quick: bool
) -> tuple[list[Problem], npt.NDArray[np.uint64]]:
    """The problems of one shard, and a 64-bit hash of each of its keys."""
    none = np.zeros(0, np.uint64)
    try:
        place.check_size(entry)
        index = place.shard(entry).index
    except ShardError as error:
        return [Problem(entry.name, str(error))], none
    problems = []
    if len(index) != entry.num_samples:
        what = f"{plural(len(index), 'sample')} in the index, {entry.num_samples} in the manifest"
        problems.append(Problem(entry.name, what))
    try:
        if not quick and _sha256(place.chunks(entry)) != entry.sha256:
            problems += _damage(place, entry, index)
    except ShardError as error:
        problems.append(Problem(entry.name, str(error)))
    return problems, key_hashes(index)


def _sha256(chunks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _damage(place: Folder | RemoteStore, entry: ShardEntry, index: ShardIndex) -> list[Problem]:
    """What is wrong in a shard whose bytes have changed; nothing, if only their transfer failed."""
    if isinstance(place, Folder):
        found = list(find_damage(place.location / entry.name, entry.name, index))
    else:
        with tempfile.NamedTemporaryFile(prefix="gdt-verify-") as copy:
            for chunk in place.chunks(entry):
                copy.write(chunk)
            copy.flush()
            path = Path(copy.name)
            if file_sha256(path) == entry.sha256:
                return []
            found = list(find_damage(path, entry.name, index))
    return found or [Problem(entry.name, "bytes between the members were changed")]


def key_hashes(index: ShardIndex) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each key [N]."""
    digests = (hashlib.blake2b(index.key(i).encode(), digest_size=8) for i in range(len(index)))
    return np.frombuffer(b"".join(d.digest() for d in digests), np.uint64)


def find_damage(path: Path, shard: str, index: ShardIndex) -> Iterator[Problem]:
    """What exactly is wrong in a tar (a shard of this name), as far as its index tells."""
    with path.open("rb") as file:
        for i in range(len(index)):
            sample = index.sample(i)
            for member in sample.members.values():
                file.seek(member.offset)
                data = file.read(member.size)
                if zlib.crc32(data) != member.crc32:
                    packets = _damaged_packets(sample, member.extension, data)
                    where = f" (packets {packets})" if packets else ""
                    what = f".{member.extension} is damaged{where}"
                    yield Problem(shard, what, sample.key)
    try:
        with tarfile.open(path, "r:") as tar:
            names = [entry.name for entry in tar]
    except (tarfile.TarError, OSError) as error:
        yield Problem(shard, f"the tar's own headers are damaged: {error}")
        return
    expected = [
        f"{sample.key}.{extension}"
        for sample in map(index.sample, range(len(index)))
        for extension in sample.members
    ]
    if names != expected:
        yield Problem(shard, "the tar's entries are not those of the index")


def _damaged_packets(sample: IndexedSample, extension: str, data: bytes) -> str:
    found = []
    start = sample.members[extension].offset
    for track in (sample.video, sample.audio):
        if track is None or track.member != extension:
            continue
        p = track.packets
        for n in range(len(p)):
            offset = int(p.offset[n]) - start
            if zlib.crc32(data[offset : offset + int(p.size[n])]) != p.crc32[n]:
                found.append(str(n))
    return ", ".join(found[:8]) + (", …" if len(found) > 8 else "")
