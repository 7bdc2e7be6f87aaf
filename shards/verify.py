"""Verify a data set: every byte of every shard against what was recorded when it was written.

The manifest holds a SHA-256 of each tar and index, so no changed byte goes unseen; the checksums of
members and packets then say what is damaged. Reads in order, at the speed of the disk.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shards.errors import IndexFormatError
from shards.index import IndexedSample, ShardIndex
from shards.manifest import read_manifest
from shards.writer import INDEX_SUFFIX, ShardEntry, file_sha256


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
    folder: Path,
    *,
    quick: bool = False,
    num_threads: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Verification:
    """Verify the data set in `folder`.

    Args:
        folder: the data set, or a build's target with train and val in it.
        quick: sizes, indexes and the number of keys only; the tars are not read.
        num_threads: shards verified at a time.
        progress: called with bytes done and bytes to do.

    Raises:
        IndexFormatError: there is no data set, or its manifest is damaged.
    """
    result = Verification()
    work = [(data_set, entry) for data_set in _data_sets(folder) for entry in _entries(data_set)]
    total = sum(entry.size for _, entry in work)
    keys: dict[Path, list[npt.NDArray[np.uint64]]] = {}
    with ThreadPoolExecutor(max_workers=num_threads) as pool:
        for (data_set, entry), (problems, hashes) in zip(
            work, pool.map(lambda item: _verify_shard(item[0], item[1], quick), work), strict=True
        ):
            result.problems += problems
            result.shards += 1
            result.samples += len(hashes)
            result.bytes_read += 0 if quick else entry.size
            keys.setdefault(data_set, []).append(hashes)
            progress(result.bytes_read, total)
    for data_set, parts in keys.items():
        found = np.concatenate(parts)
        if len(np.unique(found)) < len(found):
            result.problems.append(Problem(str(data_set), "a key is used more than once"))
    return result


def _data_sets(folder: Path) -> list[Path]:
    parts = [folder / part for part in ("train", "val") if (folder / part).is_dir()]
    return parts or [folder]


def _entries(data_set: Path) -> tuple[ShardEntry, ...]:
    return read_manifest(data_set).shards


def _verify_shard(
    folder: Path, entry: ShardEntry, quick: bool
) -> tuple[list[Problem], npt.NDArray[np.uint64]]:
    """The problems of one shard, and a 64-bit hash of each of its keys."""
    path, index_path = folder / entry.name, folder / (entry.name + INDEX_SUFFIX)
    none = np.zeros(0, np.uint64)
    try:
        if path.stat().st_size != entry.size:
            what = f"{path.stat().st_size} bytes instead of {entry.size}: cut short or replaced"
            return [Problem(entry.name, what)], none
        if file_sha256(index_path) != entry.index_sha256:
            return [Problem(entry.name, "its index is not the one that was written")], none
        index = ShardIndex(index_path)
    except FileNotFoundError as error:
        return [Problem(entry.name, f"{Path(str(error.filename)).name} is missing")], none
    except IndexFormatError as error:
        return [Problem(entry.name, str(error))], none
    problems = []
    if len(index) != entry.num_samples:
        what = f"{len(index)} samples in the index, {entry.num_samples} in the manifest"
        problems.append(Problem(entry.name, what))
    if not quick and file_sha256(path) != entry.sha256:
        damage = list(_find_damage(path, index))
        problems += damage or [Problem(entry.name, "bytes between the members were changed")]
    return problems, key_hashes(index)


def key_hashes(index: ShardIndex) -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each key [N]."""
    digests = (hashlib.blake2b(index.key(i).encode(), digest_size=8) for i in range(len(index)))
    return np.frombuffer(b"".join(d.digest() for d in digests), np.uint64)


def _find_damage(path: Path, index: ShardIndex) -> Iterator[Problem]:
    """What exactly is wrong in a shard whose bytes have changed."""
    shard = path.name
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
