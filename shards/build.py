"""Build a data set: sources → plan → shards → manifest and report.

    list_sources ─► probe (workers) ─► plan.jsonl ─► cut ─► transcode (workers) ─► ShardWriter

An interrupted build is continued by running it again: shards that have an index are kept. The
result does not depend on the number of workers, nor on interruptions.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from shards import media, report
from shards.cutting import PlannedSource, clip_counts, cut, parts
from shards.errors import BuildError
from shards.index import ShardIndex
from shards.manifest import MANIFEST_NAME, Manifest
from shards.options import BuildOptions
from shards.pool import WorkerFailure, WorkerPool
from shards.report import BuildSummary
from shards.sources import Labels, Source, list_sources, with_labels
from shards.target import REPORT_NAME, Target
from shards.transcode import Unit, machine, transcode
from shards.writer import INDEX_SUFFIX, ShardEntry, ShardWriter, write_atomically

Progress = Callable[[str, int, int | None], None]
"""Called with a stage ("probe", "build"), how much is done, and the total where it is known."""


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
    """Build shards from folders and files into `out`; see BuildOptions for the choices.

    Raises:
        BuildError: nothing can be built, and why; one source's fault is only counted.
    """
    table = Labels(labels) if labels is not None else None
    with Target(out) as target, WorkerPool(num_workers, time_limit_seconds) as pool:
        try:
            return _Build(target, options, pool, progress).run(sources, table, labels)
        except OSError as error:
            raise BuildError(
                f"Writing to {out} failed: {error.strerror} ({error.filename}). Finished shards "
                "are kept: make room, then run the same command again."
            ) from error


class _Build:
    """One run of a build on a claimed target."""

    def __init__(
        self, target: Target, options: BuildOptions, pool: WorkerPool, progress: Progress
    ) -> None:
        self._target, self._options, self._pool = target, options, pool
        self._progress = progress
        self._plan = target.state / "plan.jsonl"

    def run(
        self, given: Sequence[Path], labels: Labels | None, labels_path: Path | None
    ) -> BuildSummary:
        """Plan, build every shard that is not there yet, then write manifests and report."""
        skip = labels_path.resolve() if labels_path else None
        listed = (s for s in list_sources(given) if s.path != skip)
        num_sources, clips = self._write_plan(with_labels(listed, labels))
        if not num_sources:
            raise BuildError(f"No file in {', '.join(map(str, given))}: there is nothing to build.")
        self._target.claim(self._options.as_dict(), _sha256(self._plan))
        names = parts(self._options)
        finished = (
            all((self._target.part_folder(p) / MANIFEST_NAME).exists() for p in names)
            and (self._target.path / REPORT_NAME).exists()
        )
        if finished:
            return self._summary_of_finished()
        done, total = 0, sum(clips.values())
        entries: dict[str, list[ShardEntry]] = {}
        self._progress("build", 0, total)
        for part in names:
            entries[part] = []
            for entry, planned in self._build_part(part):
                entries[part] += [entry] if entry is not None else []
                done += planned
                self._progress("build", done, total)
        return self._finish(entries)

    def _write_plan(self, sources: Iterator[Source]) -> tuple[int, Counter[str]]:
        """Probe every source; returns how many there are and the clips of each part."""
        temporary = self._plan.with_suffix(".tmp")
        clips: Counter[str] = Counter()
        number = 0
        with temporary.open("wb") as file:
            for number, (source, found) in enumerate(self._pool.map(_probe, sources), start=1):
                line = _plan_line(number, source, found)
                if "skip" not in line:
                    planned = planned_source(line)
                    counts = clip_counts(planned, self._options)
                    clips.update(counts)
                    if not any(counts.values()):
                        line["skip"] = _too_short(planned, self._options)
                    if not planned.has_audio and "audio" in self._options.require:
                        line["skip"] = ["probe", "no audio stream", ""]
                        clips.subtract(counts)
                file.write(report.jsonl([line]))
                self._progress("probe", number, None)
        temporary.rename(self._plan)
        return number, clips

    def _planned(self) -> Iterator[PlannedSource]:
        for line in report.read_jsonl(self._plan):
            if "skip" not in line:
                yield planned_source(line)

    def _build_part(self, part: str) -> Iterator[tuple[ShardEntry | None, int]]:
        """Build the shards of one part; yields each with the number of clips that were planned."""
        folder = self._target.part_folder(part)
        folder.mkdir(exist_ok=True)
        todo: list[tuple[int, list[Unit]]] = []

        def units() -> Iterator[tuple[int, Unit, bool]]:
            for number, shard in enumerate(cut(self._planned(), part, self._options)):
                if self._kept(part, number) is None:
                    for i, unit in enumerate(shard):
                        yield number, unit, i + 1 == len(shard)
                else:
                    todo.append((number, shard))

        # tasks carry their shard's number; a shard is written while its units come in, in order
        writer: ShardWriter | None = None
        lines: list[dict[str, Any]] = []
        planned = 0
        for (number, unit, is_last), result in self._pool.map(_transcode, units(), self._options):
            while todo and todo[0][0] < number:
                yield self._keep(part, *todo.pop(0))
            if writer is None:
                writer, lines, planned = ShardWriter(self._shard_path(part, number)), [], 0
            planned += unit.num_clips
            lines.append(_add(writer, unit, result))
            self._progress("clips", unit.num_clips, None)
            if is_last:
                yield self._finish_shard(part, number, writer, lines), planned
                writer = None
        for number, shard in todo:
            yield self._keep(part, number, shard)

    def _shard_path(self, part: str, number: int) -> Path:
        return self._target.part_folder(part) / f"shard-{number:06d}.tar"

    def _report_path(self, part: str, number: int) -> Path:
        return self._target.state / f"{part or 'all'}-{number:06d}.jsonl"

    def _kept(self, part: str, number: int) -> Path | None:
        """The report of a shard that an earlier run finished, or None."""
        path = self._report_path(part, number)
        return path if path.exists() else None

    def _keep(self, part: str, number: int, shard: list[Unit]) -> tuple[ShardEntry | None, int]:
        planned = sum(u.num_clips for u in shard)
        path = self._shard_path(part, number)
        index_path = path.with_name(path.name + INDEX_SUFFIX)
        if not index_path.exists():
            return None, planned
        index = ShardIndex(index_path)
        data = index_path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return ShardEntry(path.name, index.shard_size, len(index), len(data), digest), planned

    def _finish_shard(
        self, part: str, number: int, writer: ShardWriter, lines: list[dict[str, Any]]
    ) -> ShardEntry | None:
        entry = None
        if len(writer):
            entry = writer.finish()
        else:
            writer.discard()
        # the report comes after the index: a shard with a report is finished, or empty
        write_atomically(self._report_path(part, number), report.jsonl(lines))
        return entry

    def _finish(self, entries: dict[str, list[ShardEntry]]) -> BuildSummary:
        summary = BuildSummary()
        shard_reports = [
            sorted(self._target.state.glob(f"{part or 'all'}-*.jsonl")) for part in entries
        ]
        temporary = self._target.path / (REPORT_NAME + ".tmp")
        with temporary.open("wb") as file:
            for line in report.count(report.source_lines(self._plan, shard_reports), summary):
                file.write(report.jsonl([line]))
        temporary.rename(self._target.path / REPORT_NAME)
        if not summary.clips:
            raise BuildError(self._nothing_made(summary))
        about: dict[str, Any] = {"options": self._options.as_dict(), "made_by": machine()}
        about |= {"sources": summary.sources, "skipped_clips": dict(summary.skipped_clips)}
        for part, shards in entries.items():
            Manifest(tuple(shards), about).write(self._target.part_folder(part))
        for path in self._target.state.iterdir():
            if path.name != "lock":
                path.unlink()
        return summary

    def _summary_of_finished(self) -> BuildSummary:
        summary = BuildSummary(already_built=True)
        for _ in report.count(report.read_jsonl(self._target.path / REPORT_NAME), summary):
            pass
        self._plan.unlink()
        return summary

    def _nothing_made(self, summary: BuildSummary) -> str:
        causes = "; ".join(f"{n} × {cause}" for cause, n in summary.skipped_sources.most_common(5))
        return (
            f"None of the {summary.sources} files could become a clip: {causes}. "
            f"{self._target.path / REPORT_NAME} has a line for each."
        )


def _probe(source: Source) -> media.Probe:
    return media.probe(source.path)


def _transcode(task: tuple[int, Unit, bool], options: BuildOptions) -> Any:
    return transcode(task[1], options)


def _add(writer: ShardWriter, unit: Unit, result: Any) -> dict[str, Any]:
    """Put a unit's samples in the shard; returns its line for the report."""
    about = (unit.number, unit.name, unit.part)
    if isinstance(result, WorkerFailure):
        error = result.error
        skipped = {f"{error.stage}: {error.cause}": unit.num_clips}
        return report.unit_line(*about, 0, skipped, [str(error)])
    for sample in result.samples:
        writer.add(sample.key, sample.members, sample.tracks)
    return report.unit_line(*about, len(result.samples), result.skipped, result.details)


def _plan_line(number: int, source: Source, found: media.Probe | WorkerFailure) -> dict[str, Any]:
    line: dict[str, Any] = {"number": number, "name": source.name, "path": str(source.path)}
    if isinstance(found, WorkerFailure):
        error = found.error
        return line | {"skip": [error.stage, error.cause, error.detail]}
    line |= asdict(found) | {"row": source.row}
    line["origin"], line["duration_seconds"] = str(found.origin), str(found.duration_seconds)
    return line


def planned_source(line: dict[str, Any]) -> PlannedSource:
    """A line of the plan as what `cut` takes."""
    return PlannedSource(
        number=line["number"],
        name=line["name"],
        path=line["path"],
        size=line["size"],
        mtime_ns=line["mtime_ns"],
        origin=Fraction(line["origin"]),
        duration_seconds=Fraction(line["duration_seconds"]),
        has_audio=line["has_audio"],
        row=line["row"],
    )


def _too_short(source: PlannedSource, options: BuildOptions) -> list[str]:
    has, needs = float(source.duration_seconds), float(options.clip_length)
    return ["cut", "shorter than a clip", f"{has:.3f} s, and a clip is {needs:g} s"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
