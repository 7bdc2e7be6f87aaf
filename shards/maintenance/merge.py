"""Merge data sets that lie under one folder or URL into one: a manifest, and no byte copied.

The shards stay where they are; the new manifest names them by their path within its folder. Used
for the portions that the jobs of an array built, and for any data sets given by name.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from shards.building.array_part import Portion
from shards.building.clip_plan import HELD_OUT, TRAIN, WHOLE
from shards.building.target import BUILD_NAME, REPORT_NAME
from shards.errors import BuildError, IndexFormatError
from shards.format.index import ShardIndex
from shards.format.json_text import plain_json
from shards.format.manifest import MANIFEST_NAME, Manifest, ShardEntry, parse_manifest
from shards.maintenance.verify import key_hashes
from shards.reading.local_store import Folder
from shards.reading.remote_store import RemoteStore
from shards.storage.local_files import LocalFolder
from shards.storage.transfer import RemoteOptions
from shards.storage.upload import RemoteFolder
from shards.storage.urls import folder_or_url


@dataclass(frozen=True)
class Merged:
    """A data set that was made of others: its place, and what it holds."""

    location: str
    data_sets: int
    shards: int
    samples: int


def merge_portions(out: Path | str, remote: RemoteOptions | None = None) -> list[Merged]:
    """Join what the jobs of an array built under `out`: manifests, one report, one build.json.

    Raises:
        BuildError: a part is missing, unfinished, or of another build; a key is there twice.
    """
    merger = _Merger(out, remote)
    portions = merger.portions()
    builds = {p.folder: merger.portion_build(p) for p in portions}
    first = next(iter(builds.values()))
    for portion, build in builds.items():
        for name in ("options", "sources", "sources_sha256", "labels_sha256"):
            if build.get(name) != first.get(name):
                raise BuildError(
                    f"{merger.location}: {portion} was built with other {name.split('_')[0]} than "
                    f"{portions[0].folder}{_first_difference(build, first, name)}. Build it again "
                    "with the same command as the others."
                )
    parts = (TRAIN, HELD_OUT) if first["options"].get("holdout") else (WHOLE,)
    merged = []
    manifests: dict[str, Manifest] = {}
    for part in parts:
        sets = {
            p.folder: merger.manifest("/".join(filter(None, (part, p.folder)))) for p in portions
        }
        about = {"options": first["options"], "parts": len(portions)}
        about["made_by"] = "; ".join(sorted({m.build.get("made_by", "") for m in sets.values()}))
        for count in ("sources", "sources_made"):
            about[count] = sum(m.build.get(count, 0) for m in sets.values())
        manifests[part] = merger.joined(part, sets, about)
    if not any(manifest.num_samples for manifest in manifests.values()):
        raise BuildError(f"{merger.location}: no part has a single clip; see their {REPORT_NAME}.")
    merger.join_reports(portions)
    about = {k: v for k, v in first.items() if k not in ("part", "plan")}
    about["parts"] = len(portions)
    merger.write(BUILD_NAME, json.dumps(about, indent=1, sort_keys=True).encode() + b"\n")
    for part, manifest in manifests.items():
        merger.write(f"{part}/{MANIFEST_NAME}".lstrip("/"), manifest.to_bytes())
        merged.append(merger.described(part, len(portions), manifest))
    return merged


def merge_data_sets(
    out: Path | str, data_sets: Sequence[Path | str], remote: RemoteOptions | None = None
) -> Merged:
    """Make a data set of these, which all lie under `out`, in this order.

    Raises:
        BuildError: one lies elsewhere, a key is there twice, or `out` is a data set of its own.
    """
    merger = _Merger(out, remote)
    names = [merger.name_of(data_set) for data_set in data_sets]
    if len(set(names)) < len(names):
        raise BuildError(f"A data set is given twice: {', '.join(sorted(names))}.")
    existing = merger.read(MANIFEST_NAME)
    if existing is not None:
        build = parse_manifest(existing, f"{merger.location}/{MANIFEST_NAME}").build
        if "merged" not in build:
            raise BuildError(
                f"{merger.location} is a data set of its own; merge into a folder above it."
            )
    sets = {name: merger.manifest(name) for name in names}
    manifest = merger.joined("", sets, {"merged": {name: m.build for name, m in sets.items()}})
    merger.write(MANIFEST_NAME, manifest.to_bytes())
    return merger.described("", len(names), manifest)


def _first_difference(build: dict[str, Any], first: dict[str, Any], name: str) -> str:
    here, there = build.get(name), first.get(name)
    if not (isinstance(here, dict) and isinstance(there, dict)):
        return ""
    option = min(k for k in here.keys() | there.keys() if here.get(k) != there.get(k))
    return f" ({option} is {here.get(option)!r} and {there.get(option)!r})"


class _Merger:
    """The folder or URL that data sets are merged under."""

    def __init__(self, out: Path | str, remote: RemoteOptions | None) -> None:
        place = self._place = folder_or_url(out)
        self._options = remote or RemoteOptions()
        self._files: LocalFolder | RemoteFolder
        if isinstance(place, str):
            self._files = RemoteFolder(place, self._options)
        else:
            self._files = LocalFolder(place)
        self.location = self._files.location
        self.read, self.write = self._files.read, self._files.write

    def portions(self) -> list[Portion]:
        """All parts that make up the whole, in order; each is there."""
        found = [Portion.of_folder(name) for name in sorted(self._files.sizes())]
        portions = [p for p in found if p is not None]
        if not portions:
            raise BuildError(
                f"{self.location} has no part-0001-of-…: build parts with --part 1/N to N/N, or "
                "name the data sets to merge."
            )
        counts = sorted({p.count for p in portions})
        if len(counts) > 1:
            raise BuildError(
                f"{self.location} holds parts of {' and of '.join(map(str, counts))}; they cut the "
                "sources in other ways. Remove those that are not meant."
            )
        missing = sorted(set(range(1, counts[0] + 1)) - {p.number for p in portions})
        if missing:
            raise BuildError(
                f"{self.location} lacks {len(missing)} of {counts[0]} parts: "
                f"{', '.join(f'{n}/{counts[0]}' for n in missing[:8])}. Build them first."
            )
        return portions

    def portion_build(self, portion: Portion) -> dict[str, Any]:
        """The build.json of a finished part."""
        folder = portion.folder
        data = self.read(f"{folder}/{BUILD_NAME}")
        if data is None or REPORT_NAME not in self._files.sizes(folder):
            raise BuildError(
                f"{self.location}/{folder} is not finished: run its job again "
                f"(--part {portion.number}/{portion.count})."
            )
        try:
            build = dict(plain_json(data))
            dict(build["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(
                f"{self.location}/{folder}/{BUILD_NAME} is damaged ({error!r}); remove the part "
                "and build it again."
            ) from error
        return build

    def name_of(self, data_set: Path | str) -> str:
        """The path of a data set within this folder."""
        place = folder_or_url(data_set)
        if isinstance(place, Path) and isinstance(self._place, Path):
            place, base = place.resolve(), self._place.resolve()
            if place != base and place.is_relative_to(base):
                return place.relative_to(base).as_posix()
        elif isinstance(place, str) and isinstance(self._place, str):
            base_url = self._place.rstrip("/") + "/"
            if place.rstrip("/").startswith(base_url):
                return place.rstrip("/").removeprefix(base_url)
        raise BuildError(
            f"{data_set} does not lie under {self.location}; merge into a folder that holds all."
        )

    def manifest(self, name: str) -> Manifest:
        """The manifest of a data set within."""
        path = f"{name}/{MANIFEST_NAME}"
        data = self.read(path)
        if data is None:
            raise IndexFormatError(
                f"{self.location}/{name} has no {MANIFEST_NAME}: it is not a data set, or its "
                "build has not finished."
            )
        return parse_manifest(data, f"{self.location}/{path}")

    def joined(self, part: str, sets: dict[str, Manifest], about: dict[str, Any]) -> Manifest:
        """One manifest over several data sets, whose keys are unique in it."""
        entries = []
        for name, manifest in sets.items():
            within = name.removeprefix(f"{part}/") if part else name
            entries += [replace(e, name=f"{within}/{e.name}") for e in manifest.shards]
        self._check_keys(part, entries)
        return Manifest(tuple(entries), about)

    def join_reports(self, portions: Sequence[Portion]) -> None:
        """One report of all parts' lines, part after part."""
        with tempfile.NamedTemporaryFile(prefix="gdt-merge-") as joined:
            for portion in portions:
                self._files.read_into(joined.file, f"{portion.folder}/{REPORT_NAME}")
            joined.flush()
            self._files.upload(Path(joined.name), REPORT_NAME)

    def described(self, part: str, data_sets: int, manifest: Manifest) -> Merged:
        """What was made."""
        location = f"{self.location}/{part}".rstrip("/")
        return Merged(location, data_sets, len(manifest.shards), manifest.num_samples)

    def _check_keys(self, part: str, entries: Sequence[ShardEntry]) -> None:
        """Refuse a key that is used twice; takes 8 bytes of memory for each key."""
        hashes = [key_hashes(index) for _, index in self._indexes(part, entries)]
        found = np.sort(np.concatenate(hashes)) if hashes else np.zeros(0, np.uint64)
        doubtful = np.unique(found[1:][found[1:] == found[:-1]])
        if not len(doubtful):
            return
        seen: dict[str, str] = {}  # of the few keys whose hashes meet
        for entry, index in self._indexes(part, entries):
            for i in np.flatnonzero(np.isin(key_hashes(index), doubtful)).tolist():
                key = index.key(i)
                if key in seen:
                    raise BuildError(
                        f"Key {key} is in {seen[key]} and in {entry.name}: keys are unique in a "
                        "data set. Were the same sources built twice?"
                    )
                seen[key] = entry.name

    def _indexes(
        self, part: str, entries: Sequence[ShardEntry]
    ) -> Iterator[tuple[ShardEntry, ShardIndex]]:
        store: Folder | RemoteStore
        if isinstance(self._place, str):
            store = RemoteStore(f"{self._place.rstrip('/')}/{part}", self._options)
        else:
            store = Folder(self._place / part)
        for entry in entries:
            yield entry, store.shard(entry).index
