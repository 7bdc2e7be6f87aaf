"""The work of a build as values: a `ShardJob` in; a shard, and a report of each unit, out.

What a job makes follows from the job, the options and the sources' bytes, on whatever machine and
in whatever order jobs are done. Engines (engines.py, ray_engine.py) differ in who does them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shards.building.report import UnitReport
from shards.building.worker_pool import WorkerFailure
from shards.encoding.transcode import Unit, UnitResult
from shards.format.manifest import INDEX_SUFFIX, ShardEntry
from shards.format.writer import ShardWriter
from shards.storage.upload import RemoteFolder


@dataclass(frozen=True)
class ShardJob:
    """One shard to make: shard `number` of a part ("", "train" or "val"), out of these units."""

    part: str
    number: int
    units: tuple[Unit, ...]

    @property
    def name(self) -> str:
        """The tar's file name."""
        return f"shard-{self.number:06d}.tar"

    @property
    def num_clips(self) -> int:
        """Clips planned; the shard may get fewer."""
        return sum(unit.num_clips for unit in self.units)


@dataclass(frozen=True)
class BuiltShard:
    """What became of a job: the shard (None where no clip could be made), and of its units."""

    job: ShardJob
    entry: ShardEntry | None
    units: tuple[UnitReport, ...]


@dataclass(frozen=True)
class Layout:
    """Where the shards of each part lie under a target; `portion` is an array job's own folder.

    With `remote` they end there, and are made in folders of `path`.
    """

    path: Path
    portion: str = ""
    remote: RemoteFolder | None = None

    def folder(self, part: str) -> Path:
        """The folder of a part's data set."""
        if self.remote is not None:
            return self.path / self.portion / part
        return self.path / part / self.portion

    def name(self, part: str, file: str = "") -> str:
        """A file of that folder (or the folder itself) as a path within the target."""
        return "/".join(step for step in (part, self.portion, file) if step)

    def take(self, built: BuiltShard, folder: Path) -> BuiltShard:
        """Give a shard that was written in `folder`, on the same disk, its place; index last."""
        part, entry = built.job.part, built.entry
        for name in (entry.name, entry.name + INDEX_SUFFIX) if entry is not None else ():
            if self.remote is None:
                (folder / name).rename(self.folder(part) / name)
            else:
                self.remote.upload(folder / name, self.name(part, name))
                (folder / name).unlink()
        return built


def write_shard(
    job: ShardJob, results: Iterable[UnitResult | WorkerFailure], folder: Path
) -> BuiltShard:
    """Write a job's tar and index into `folder`, whole or not at all.

    Args:
        job: what is to be made.
        results: what became of its units, in their order.
        folder: where the shard gets its final name.
    """
    units = []
    with ShardWriter(folder / job.name) as writer:
        for unit, result in zip(job.units, results, strict=True):
            units.append(_add(writer, unit, result))
        entry = writer.finish() if len(writer) else None
    return BuiltShard(job, entry, tuple(units))


def _add(writer: ShardWriter, unit: Unit, result: UnitResult | WorkerFailure) -> UnitReport:
    """Put a unit's samples in the shard; returns its report."""
    about = (unit.number, unit.source.name, unit.part)
    if isinstance(result, WorkerFailure):
        error = result.error
        skipped = {f"{error.stage}: {error.cause}": unit.num_clips}
        return UnitReport(*about, 0, skipped, (str(error),))
    for sample in result.samples:
        writer.add(sample.key, sample.members, sample.tracks)
    made, details = len(result.samples), tuple(result.details)
    of_them = (result.deinterlaced, result.tone_mapped)
    return UnitReport(*about, made, result.skipped, details, *of_them)
