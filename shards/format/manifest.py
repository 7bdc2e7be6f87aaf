"""`manifest.json`: what a data set consists of, written last; a folder without one is none."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from shards.errors import IndexFormatError
from shards.format.json_text import plain_json
from shards.shown import shown
from shards.storage.local_files import open_regular, write_atomically

MANIFEST_NAME = "manifest.json"
INDEX_SUFFIX = ".index"
FORMAT, VERSION = "gdt-data-set", 3  # 1 and 2 are read too
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOO_MANY = 1 << 62


@dataclass(frozen=True)
class ShardEntry:
    """One finished shard, as the manifest lists it."""

    name: str
    size: int
    sha256: str
    num_samples: int
    index_size: int
    index_sha256: str


@dataclass(frozen=True)
class Manifest:
    """The shards of a data set in order, and how they were made.

    `build` is for people (options, counts); `fingerprint` covers the shards, nothing else. The file
    has a checksum of all that it holds.
    """

    shards: tuple[ShardEntry, ...]
    build: dict[str, Any] = field(default_factory=dict)

    @property
    def num_samples(self) -> int:
        """Samples in all shards."""
        return sum(s.num_samples for s in self.shards)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest over the shards' names, sizes and checksums, in order."""
        return _digest([list(vars(s).values()) for s in self.shards])

    def write(self, folder: Path) -> None:
        """Write it into a data set's folder, atomically."""
        write_atomically(folder / MANIFEST_NAME, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The file."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "num_samples": self.num_samples,
            "shards": [asdict(s) for s in self.shards],
            "build": self.build,
        }
        content["checksum"] = _checksum(content)
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
        return text.encode() + b"\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and check a data set's manifest.

    Raises:
        IndexFormatError: there is none, or it is damaged or of another version.
    """
    path = folder / MANIFEST_NAME
    try:
        with open_regular(path) as file:
            data = file.read()
    except FileNotFoundError as error:
        raise IndexFormatError(_no_manifest(folder)) from error
    except OSError as error:
        raise IndexFormatError(
            f"{folder} cannot be read as a folder of shards: {error.strerror}."
        ) from error
    return parse_manifest(data, str(path))


def parse_manifest(data: bytes, path: str) -> Manifest:
    """A manifest out of the bytes of its file; `path` is for messages.

    Raises:
        IndexFormatError: it is damaged or of another version.
    """
    try:
        content = plain_json(data)
    except ValueError as error:
        raise IndexFormatError(
            f"{path} is not a manifest ({error}); build the data set again."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise IndexFormatError(f"{path} is not a manifest of shards; build the data set again.")
    version = content.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise IndexFormatError(
            f"{path} has version {f'{version!r}'[:40]}; this program reads 1 to {VERSION}. "
            "Build the data set again with this version."
        )
    try:
        if not isinstance(content["shards"], list):
            raise ValueError("its shards are no list")
        shards = tuple(_entry(e) for e in content["shards"])
        manifest = Manifest(shards, dict(content["build"]))
        _check_together(shards)
    except (KeyError, TypeError, ValueError) as error:
        raise IndexFormatError(
            f"{path} is damaged ({f'{error!r}'[:200]}); build the data set again."
        ) from error
    fingerprint = _digest_1(shards) if version == 1 else manifest.fingerprint
    if fingerprint != content.get("fingerprint"):
        raise IndexFormatError(
            f"{path} does not agree with its own fingerprint: it was edited or damaged; "
            "build the data set again."
        )
    has_checksum = version == VERSION or "checksum" in content
    if has_checksum and content.get("checksum") != _checksum(content):
        raise IndexFormatError(
            f"{path} does not agree with its own checksum: it was edited or damaged; copy it "
            "again, or build the data set again."
        )
    return manifest


def _entry(plain: dict[str, Any]) -> ShardEntry:
    entry = ShardEntry(**plain)
    if not _lies_within(entry.name):
        raise ValueError(f"shard name {entry.name!r}")
    for digest in (entry.sha256, entry.index_sha256):
        if not (isinstance(digest, str) and _SHA256.fullmatch(digest)):
            raise ValueError(f"checksums of shard {entry.name!r}")
    counts = (entry.size, entry.num_samples, entry.index_size)
    if not all(type(c) is int and 0 <= c < _TOO_MANY for c in counts):
        raise ValueError(f"counts of shard {entry.name!r}")
    return entry


def _check_together(shards: tuple[ShardEntry, ...]) -> None:
    """Refuse a shard that is listed twice, and more samples than can be numbered."""
    names = {shard.name for shard in shards}
    if len(names) < len(shards):
        raise ValueError("a shard is listed twice")
    if sum(shard.num_samples for shard in shards) >= _TOO_MANY:
        raise ValueError("too many samples")


def _lies_within(name: object) -> bool:
    """Whether this is a plain path within the data set's folder, as `merge` writes them."""
    if not isinstance(name, str) or shown(name) != name or "\\" in name:
        return False
    return not any(step in ("", ".", "..") for step in name.split("/"))


def _checksum(content: dict[str, Any]) -> str:
    """Hex SHA-256 over everything else in the file."""
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _digest(listed: list[list[Any]]) -> str:
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]


def _digest_1(shards: tuple[ShardEntry, ...]) -> str:
    """The fingerprint in manifests of version 1, which did not cover sizes."""
    return _digest([[s.name, s.sha256, s.num_samples, s.index_sha256] for s in shards])


def _no_manifest(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder} is not a folder of shards: it does not exist. Check the path."
    inside = sorted(p.parent.name for p in folder.glob(f"*/{MANIFEST_NAME}"))
    if inside:
        return (
            f"{folder} holds the data sets {', '.join(inside)}; "
            f"name one, e.g. {folder / inside[0]}."
        )
    return (
        f"{folder} has no {MANIFEST_NAME}: it is not a data set, or its build has not finished. "
        "Make one with `gdt shards build`, or run an interrupted build again."
    )
