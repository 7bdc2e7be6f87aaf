"""Build a data set: sources → plan → shards → manifest and report.

    list_sources ─► probe (workers) ─► plan.jsonl ─► cut ─► transcode (workers) ─► ShardWriter

An interrupted build is continued by running it again: finished shards are kept. The result does not
depend on the number of workers, nor on interruptions.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shards import media, report
from shards.cutting import PlannedSource, cut, parts
from shards.errors import BuildError, IndexFormatError, SourceError
from shards.index import ShardIndex
from shards.lists import is_list, read_lists
from shards.manifest import MANIFEST_NAME, Manifest
from shards.options import BuildOptions
from shards.planning import plan_line, planned_source
from shards.pool import WorkerFailure, WorkerPool
from shards.report import BuildSummary
from shards.sources import Labels, Source, list_sources, with_labels
from shards.target import BUILD_NAME, REPORT_NAME, Target
from shards.transcode import Unit, UnitResult, machine, transcode
from shards.writer import INDEX_SUFFIX, ShardEntry, ShardWriter, file_sha256, write_atomically

Progress = Callable[[str, int, int | None], None]
"""Called with a stage ("probe": sources, "build": clips), how much is done, and of how much."""


def build(
    sources: Sequence[Path],
    out: Path,
    options: BuildOptions,
    *,
    num_workers: int = 1,
    labels: Path | None = None,
    time_limit_seconds: float = 600.0,
    progress: Progress = lambda _stage, _done, _total: None,
) -> BuildSummary:
    """Build shards from folders, files and lists into `out`; see BuildOptions for the choices.

    Args:
        sources: folders (with all that is in them) and files; or lists, see `shards.lists`.
        out: a new or empty folder, or one where this very build was interrupted.
        options: what decides the bytes.
        num_workers: worker processes; decides nothing but the time.
        labels: a CSV with the columns file and label; see `shards.sources.Labels`.
        time_limit_seconds: a minute of a source may take this long before it is given up.
        progress: called as work is done.

    Raises:
        BuildError: nothing can be built, and why; one source's fault is only counted.
    """
    table = Labels(labels) if labels is not None else None
    listed = _listed(sources, out, labels)
    with Target(out) as target, WorkerPool(num_workers, time_limit_seconds) as pool:
        try:
            summary = _Build(target, options, pool, progress).run(with_labels(listed, table))
        except OSError as error:
            raise BuildError(
                f"Building in {out} stopped: {error.strerror} ({error.filename or 'writing'}). "
                "Finished shards are kept: put that right, then run the same command again."
            ) from error
    if table is not None:
        summary.labels_without_source = table.unused()
    return summary


def _listed(given: Sequence[Path], out: Path, labels: Path | None) -> Iterator[Source]:
    lists = [path for path in given if is_list(path)]
    if not lists:
        return list_sources(given, leave_out=[out] + ([labels] if labels is not None else []))
    if len(lists) < len(given):
        raise BuildError(
            f"List {lists[0]} is given together with folders or videos; build them apart, or name "
            "those videos in the list too."
        )
    if labels is not None:
        raise BuildError(
            f"Labels {labels} are given with the list {lists[0]}; a list has them in its own "
            "column, label."
        )
    return read_lists(lists)


class _Build:
    """One run of a build on a claimed target."""

    def __init__(
        self, target: Target, options: BuildOptions, pool: WorkerPool, progress: Progress
    ) -> None:
        self._target, self._options, self._pool = target, options, pool
        self._progress = progress
        self._plan = target.state / "plan.jsonl"
        self._done, self._total = 0, 0

    def run(self, sources: Iterator[Source]) -> BuildSummary:
        """Plan, build every shard that is not there yet, then write report and manifests."""
        num_sources = self._write_plan(sources)
        if not num_sources:
            self._plan.unlink()
            raise BuildError("The sources hold no file: there is nothing to build. Check the path.")
        self._target.claim(self._options.as_dict(), file_sha256(self._plan))
        if self._is_finished():
            return self._summary_of_finished()
        self._progress("build", 0, self._total)
        built = {part: self._build_part(part) for part in parts(self._options)}
        return self._finish(built)

    def _is_finished(self) -> bool:
        folders = [self._target.part_folder(part) for part in parts(self._options)]
        needed = [self._target.path / REPORT_NAME] + [f / MANIFEST_NAME for f in folders]
        return all(path.exists() for path in needed)

    def _write_plan(self, sources: Iterator[Source]) -> int:
        """Probe every source and write the plan; returns how many sources there are."""
        temporary = self._plan.with_suffix(".tmp")
        number = 0
        with temporary.open("wb") as file:
            for number, (source, found) in enumerate(self._pool.map(_probe, sources), start=1):
                line = plan_line(number, source, found, self._options)
                self._total += line.get("clips", 0)
                file.write(report.jsonl([line]))
                self._progress("probe", number, None)
        temporary.rename(self._plan)
        return number

    def _build_part(self, part: str) -> list[ShardEntry]:
        """Build the shards of one part that are not there yet; returns all of them, in order."""
        self._target.part_folder(part).mkdir(exist_ok=True)
        entries: list[ShardEntry] = []

        def tasks() -> Iterator[_Task]:
            for number, shard in enumerate(cut(self._planned(), part, self._options)):
                if self._kept(part, number, entries):
                    self._count(sum(unit.num_clips for unit in shard))
                else:
                    for i, unit in enumerate(shard):
                        yield number, unit, i + 1 == len(shard)

        # a shard is written while the units come in, which is in order
        writer: ShardWriter | None = None
        lines: list[dict[str, Any]] = []
        try:
            for (number, unit, last), result in self._pool.map(_transcode, tasks(), self._options):
                if writer is None:
                    writer, lines = ShardWriter(self._shard_path(part, number)), []
                lines.append(_add(writer, unit, result))
                self._count(unit.num_clips)
                if last:
                    self._finish_shard(part, number, writer, lines, entries)
                    writer = None
        finally:
            if writer is not None:
                writer.discard()
        return sorted(entries, key=lambda entry: entry.name)

    def _planned(self) -> Iterator[PlannedSource]:
        for line in report.read_jsonl(self._plan):
            if "skip" not in line:
                yield planned_source(line)

    def _count(self, clips: int) -> None:
        self._done += clips
        self._progress("build", self._done, self._total)

    def _shard_path(self, part: str, number: int) -> Path:
        return self._target.part_folder(part) / f"shard-{number:06d}.tar"

    def _report_path(self, part: str, number: int) -> Path:
        return self._target.state / f"{part or 'all'}-{number:06d}.jsonl"

    def _kept(self, part: str, number: int, entries: list[ShardEntry]) -> bool:
        """Whether an earlier run finished this shard; if so, and it has samples, it is listed."""
        report_path = self._report_path(part, number)
        if not report_path.exists():
            return False
        expected: int = sum(line["clips"] for line in report.read_jsonl(report_path))
        if not expected:
            return True
        path = self._shard_path(part, number)
        index_path = path.with_name(path.name + INDEX_SUFFIX)
        try:
            index = ShardIndex(index_path)
        except (FileNotFoundError, IndexFormatError):
            return False
        entry = ShardEntry(
            name=path.name,
            size=index.shard_size,
            sha256=file_sha256(path),
            num_samples=len(index),
            index_size=index_path.stat().st_size,
            index_sha256=file_sha256(index_path),
        )
        if len(index) == expected:
            entries.append(entry)
        return len(index) == expected

    def _finish_shard(
        self,
        part: str,
        number: int,
        writer: ShardWriter,
        lines: list[dict[str, Any]],
        entries: list[ShardEntry],
    ) -> None:
        if len(writer):
            entries.append(writer.finish())
        else:
            writer.discard()
        # the report comes after the index: a shard with a report is finished, or empty
        write_atomically(self._report_path(part, number), report.jsonl(lines))

    def _finish(self, built: dict[str, list[ShardEntry]]) -> BuildSummary:
        summary = BuildSummary()
        shard_reports = [
            sorted(self._target.state.glob(f"{part or 'all'}-*.jsonl")) for part in built
        ]
        final = self._target.path / REPORT_NAME
        temporary = final.with_name(REPORT_NAME + ".tmp")
        with temporary.open("wb") as file:
            for line in report.count(report.source_lines(self._plan, shard_reports), summary):
                file.write(report.jsonl([line]))
        if summary.clips:
            about: dict[str, Any] = {"options": self._options.as_dict(), "made_by": machine()}
            about |= {"sources": summary.sources, "sources_made": summary.made}
            for part, shards in built.items():
                Manifest(tuple(shards), about).write(self._target.part_folder(part))
        temporary.rename(final)
        self._clear_state()
        if not summary.clips:
            (self._target.path / BUILD_NAME).unlink()
            raise BuildError(self._nothing_made(summary))
        return summary

    def _clear_state(self) -> None:
        for path in self._target.state.iterdir():
            if path.name != "lock":
                path.unlink()

    def _summary_of_finished(self) -> BuildSummary:
        summary = BuildSummary(already_built=True)
        for _ in report.count(report.read_jsonl(self._target.path / REPORT_NAME), summary):
            pass
        self._clear_state()
        return summary

    def _nothing_made(self, summary: BuildSummary) -> str:
        causes = "; ".join(f"{n} × {cause}" for cause, n in summary.skipped_sources.most_common(5))
        return (
            f"None of the {summary.sources} files could become a clip: {causes}. "
            f"{self._target.path / REPORT_NAME} has a line for each."
        )


_Task = tuple[int, Unit, bool]  # shard number, unit, whether it is the shard's last


def _probe(source: Source) -> media.Probe:
    if source.listed and not source.path.is_file():
        raise SourceError("open", "no such file", str(source.path))
    return media.probe(source.path)


def _transcode(task: _Task, options: BuildOptions) -> UnitResult:
    return transcode(task[1], options)


def _add(writer: ShardWriter, unit: Unit, result: UnitResult | WorkerFailure) -> dict[str, Any]:
    """Put a unit's samples in the shard; returns its line for the report."""
    about = (unit.number, unit.name, unit.part)
    if isinstance(result, WorkerFailure):
        error = result.error
        skipped = {f"{error.stage}: {error.cause}": unit.num_clips}
        return report.unit_line(*about, 0, skipped, [str(error)])
    for sample in result.samples:
        writer.add(sample.key, sample.members, sample.tracks)
    return report.unit_line(*about, len(result.samples), result.skipped, result.details)
