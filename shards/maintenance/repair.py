"""Repair a data set: indexes from their tars, manifests from both, shards from their sources.

Nothing takes its place that is not, byte for byte, what was there: the manifest's checksums decide.
Where the manifest itself is lost, an index's checksums say whether its tar is whole, a tar without
either is taken as it is, and a shard that is made again must lack no clip that the report does not
say was left out. What a shard is made of stands in the build's plan, which is kept in .build; the
sources must be what they were.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shards.building.array_part import Portion
from shards.building.clip_plan import HELD_OUT, TRAIN
from shards.building.engines import Engine
from shards.building.finished_build import KeptPlan
from shards.building.jobs import BuiltShard, Layout
from shards.building.report import UnitReport
from shards.building.target import BUILD_NAME, PLAN_NAME, STATE_NAME, Target
from shards.building.worker_pool import WorkerFailure
from shards.encoding.transcode import machine
from shards.errors import BuildError, IndexFormatError
from shards.format.index import ShardIndex
from shards.format.manifest import INDEX_SUFFIX, MANIFEST_NAME, Manifest, ShardEntry, read_manifest
from shards.maintenance.index_tar import IndexedTar, index_tar
from shards.maintenance.merge import merge_portions
from shards.maintenance.verify import PARTS, find_damage
from shards.storage.local_files import file_sha256, write_atomically


@dataclass
class Repair:
    """What was found: how many shards are whole, what was repaired, and what could not be."""

    whole: int = 0
    repaired: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def repair(
    folder: Path, engine: Engine, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> Repair:
    """Repair what a build made in `folder`; also one part of an array job, or all and their merge.

    Args:
        folder: the build's target, with train and val in it if there is a holdout.
        engine: who makes shards again.
        progress: called with shards examined, and how many there are.

    Raises:
        BuildError: it is in use, or no data set can be made out.
    """
    found = Repair()
    portions = [p for p in map(Portion.of_folder, _names(folder)) if p is not None]
    own = Portion.of_folder(folder.name)
    with engine:
        if not portions:
            _repair_build(folder.parent if own else folder, own, engine, found, progress)
            return found
        for portion in portions:
            _repair_build(folder, portion, engine, found, progress)
    _repair_merged(folder, found)
    return found


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise BuildError(f"{folder} does not exist; check the path.")
    return sorted(path.name for path in folder.iterdir())


def _repair_merged(folder: Path, found: Repair) -> None:
    """Merge again where a manifest over all parts is lost."""
    if found.problems:
        return
    places = [folder / part for part in PARTS if (folder / part).is_dir()] or [folder]
    lost = [place for place in places if not _is_read(place)]
    if lost:
        merge_portions(folder)
        found.repaired += [f"{place / MANIFEST_NAME}: merged again" for place in lost]


def _is_read(place: Path) -> bool:
    try:
        read_manifest(place)
    except IndexFormatError:
        return False
    return True


def _repair_build(
    out: Path,
    portion: Portion | None,
    engine: Engine,
    found: Repair,
    progress: Callable[[int, int], None],
) -> None:
    layout = Layout(out, portion.folder if portion else "")
    home = layout.folder("")
    if not (home / BUILD_NAME).exists():
        _Part(layout, "", None, engine, found).repair(progress)
        return
    with Target(out, portion):
        build = KeptPlan.read(home)
        for part in (TRAIN, HELD_OUT) if build.options.holdout else ("",):
            _Part(layout, part, build, engine, found).repair(progress)


class _Part:
    """One data set of a build."""

    def __init__(
        self, layout: Layout, part: str, build: KeptPlan | None, engine: Engine, found: Repair
    ) -> None:
        self._folder, self._part = layout.folder(part), part
        self._build, self._engine, self._found = build, engine, found

    def repair(self, progress: Callable[[int, int], None]) -> None:
        """Bring every file back that can be."""
        try:
            manifest = read_manifest(self._folder)
        except IndexFormatError as error:
            self._repair_all(error, progress)
            return
        broken: dict[str, ShardEntry] = {}
        without_index: dict[str, ShardEntry] = {}
        for done, entry in enumerate(manifest.shards, start=1):
            path = self._folder / entry.name
            if _sha256(path, entry.size) != entry.sha256:
                broken[entry.name] = entry
            elif _sha256(_index(path), entry.index_size) != entry.index_sha256:
                without_index[entry.name] = entry
            else:
                self._found.whole += 1
            progress(done, len(manifest.shards))
        for name, made in self._index_tars(without_index):
            if _index_sha256(made) == without_index[name].index_sha256:
                self._put_index(name, made)
            else:
                broken[name] = without_index[name]
        self._make_again(broken)
        self._compare_facts(manifest)

    def _compare_facts(self, manifest: Manifest) -> None:
        """Write the manifest anew where what it says of the build is not so."""
        if self._build is None or not self._build.made_by:
            return
        path = self._folder / MANIFEST_NAME
        try:
            data = Manifest(manifest.shards, self._build.facts()).to_bytes()
        except BuildError as error:
            self._found.problems.append(f"{path} could not be compared: {error}.")
            return
        if data != path.read_bytes():
            write_atomically(path, data)
            self._found.repaired.append(f"{path}: made again")

    def _repair_all(self, lost: IndexFormatError, progress: Callable[[int, int], None]) -> None:
        """Without a manifest: every shard by its index, then the manifest anew."""
        if self._build is None or not self._build.has_jobs:
            self._found.problems.append(
                f"{lost} It cannot be made again: {BUILD_NAME} or {STATE_NAME}/{PLAN_NAME} of the "
                "build is not there."
            )
            return
        try:
            facts = self._build.facts()
        except BuildError as error:
            self._found.problems.append(f"{lost} It cannot be made again: {error}.")
            return
        jobs = list(self._build.jobs(self._part))
        broken: dict[str, ShardEntry | None] = {}
        without_index: dict[str, None] = {}
        for done, job in enumerate(jobs, start=1):
            state = _state(self._folder / job.name)
            if state == "damaged":
                broken[job.name] = None
            elif state == "no index":
                without_index[job.name] = None
            else:
                self._found.whole += 1
            progress(done, len(jobs))
        for name, made in self._index_tars(without_index):
            if isinstance(made, IndexedTar) and not made.skipped:
                self._put_index(name, made)
            else:
                broken[name] = None
        before = len(self._found.problems)
        self._make_again(broken)
        if len(self._found.problems) > before:
            self._found.problems.append(f"{lost} It waits for the shards above.")
            return
        paths = [self._folder / job.name for job in jobs]
        entries = [_entry(path) for path in paths if path.exists()]
        Manifest(tuple(entries), facts).write(self._folder)
        self._found.repaired.append(f"{self._folder / MANIFEST_NAME}: made again")

    def _index_tars(self, names: Iterable[str]) -> Iterator[tuple[str, IndexedTar | WorkerFailure]]:
        paths = [self._folder / name for name in names]
        for path, made in self._engine.map(index_tar, paths):
            yield path.relative_to(self._folder).as_posix(), made

    def _put_index(self, name: str, made: IndexedTar | WorkerFailure) -> None:
        assert isinstance(made, IndexedTar)
        write_atomically(_index(self._folder / name), made.index)
        self._found.repaired.append(f"{_index(self._folder / name)}: made again from its tar")

    def _make_again(self, broken: dict[str, ShardEntry] | dict[str, ShardEntry | None]) -> None:
        """Make shards from their sources; each must become what the manifest says it was."""
        if not broken:
            return
        if self._build is None or not self._build.has_jobs:
            self._found.problems += [
                f"{self._folder / name} is damaged, and what it was made of is not known: "
                f"{STATE_NAME}/{PLAN_NAME} of the build is not there. Copy it again."
                for name in broken
            ]
            return
        wanted = dict(broken)
        jobs = (job for job in self._build.jobs(self._part) if job.name in wanted)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".making-") as own:
            layout = Layout(Path(own))
            (layout.folder(self._part)).mkdir(parents=True, exist_ok=True)
            options = self._build.options
            for built in self._engine.build(jobs, options, layout, lambda _clips: None):
                self._replace(built, wanted.pop(built.job.name), layout.folder(self._part))
        self._found.problems += [
            f"{self._folder / name} is damaged, and no shard of the plan" for name in wanted
        ]

    def _replace(self, built: BuiltShard, expected: ShardEntry | None, folder: Path) -> None:
        path = self._folder / built.job.name
        assert self._build is not None
        if expected is None:
            differs = machine() != self._build.made_by or self._build.lacks_clips(built.units)
        else:
            differs = built.entry != expected
        if differs:
            self._found.problems.append(f"{path} is damaged: {self._other(built.units)}")
            return
        if built.entry is None and not path.exists():
            return  # none of its clips could be made the first time either
        for file in (path, _index(path)):
            file.unlink(missing_ok=True)
            if built.entry is not None:
                shutil.move(folder / file.name, file)
        self._found.repaired.append(f"{path}: made again from its sources")

    def _other(self, units: Sequence[UnitReport]) -> str:
        """Why a shard that was made again is not what it was."""
        assert self._build is not None
        details = [detail for unit in units for detail in unit.details]
        if details:
            return f"it cannot be made again ({'; '.join(details[:3])})"
        if machine() != self._build.made_by:
            return (
                f"made again, it has other bytes: it was made by {self._build.made_by}, and this "
                f"is {machine()}. Repair it with those versions"
            )
        return "made again, it has other bytes: its sources are not what they were"


def _index(path: Path) -> Path:
    return path.with_name(path.name + INDEX_SUFFIX)


def _sha256(path: Path, size: int) -> str:
    try:
        return file_sha256(path) if path.stat().st_size == size else ""
    except FileNotFoundError:
        return ""


def _index_sha256(made: IndexedTar | WorkerFailure) -> str:
    return hashlib.sha256(made.index).hexdigest() if isinstance(made, IndexedTar) else ""


def _state(path: Path) -> str:
    """Whether a tar is "whole" by its index, "damaged", or has "no index"."""
    if not path.exists():
        return "damaged"
    try:
        index = ShardIndex(_index(path))
    except (FileNotFoundError, IndexFormatError):
        return "no index"
    return "damaged" if next(find_damage(path, path.name, index), None) else "whole"


def _entry(path: Path) -> ShardEntry:
    """What a manifest says of a shard."""
    index = _index(path)
    return ShardEntry(
        name=path.name,
        size=path.stat().st_size,
        sha256=file_sha256(path),
        num_samples=len(ShardIndex(index)),
        index_size=index.stat().st_size,
        index_sha256=file_sha256(index),
    )
