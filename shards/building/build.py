"""Build a data set: sources → plan → shards → manifest and report.

    list_sources ─► survey (engine) ─► plan.jsonl ─► cut ─► ShardJob ─► engine ─► shard, report

An interrupted build is continued by running it again: finished shards are kept. The result does not
depend on the engine or its number of workers, nor on interruptions.
"""

import contextlib
import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shards.building import report
from shards.building.array_part import Portion
from shards.building.clip_plan import cut_shards, parts
from shards.building.engines import Engine, LocalEngine
from shards.building.jobs import ShardJob
from shards.building.planned_source import read_plan
from shards.building.planning import plan_source
from shards.building.report import BuildSummary
from shards.building.survey import Survey, survey
from shards.building.target import NEW_PLAN_NAME, REPORT_NAME, Target
from shards.encoding.transcode import machine
from shards.errors import BuildError
from shards.format.json_text import jsonl_bytes
from shards.format.manifest import MANIFEST_NAME, Manifest, ShardEntry
from shards.options import BuildOptions
from shards.plural import plural
from shards.sources.discover import sources_of
from shards.sources.labels import FOLDERS, FolderLabels, Labels, with_labels
from shards.sources.source import Source
from shards.sources.split_files import SplitFiles
from shards.storage.transfer import RemoteOptions

Progress = Callable[[str, int, int | None], None]
"""Called with a stage ("probe": sources, "build": clips), how much is done, and of how much."""


def build(
    sources: Sequence[str | Path],
    out: Path | str,
    options: BuildOptions,
    *,
    num_workers: int = 1,
    labels: Path | str | None = None,
    split: SplitFiles | None = None,
    time_limit_seconds: float = 600.0,
    portion: Portion | None = None,
    engine: Engine | None = None,
    staging: Path | None = None,
    remote: RemoteOptions | None = None,
    progress: Progress = lambda _stage, _done, _total: None,
) -> BuildSummary:
    """Build shards from folders, files and lists into `out`; see BuildOptions for the choices.

    Args:
        sources: folders (with all that is in them), files, patterns, WebDataset tars and URLs, see
            `shards.sources.discover`; or lists, see `shards.sources.source_lists`.
        out: a new or empty folder, or one where this very build was interrupted; or its URL.
        options: what decides the bytes.
        num_workers: worker processes; decides nothing but the time.
        labels: a CSV with the columns file and label, or "folders"; see `shards.sources.labels`.
        split: takes only the videos that it names; see `shards.sources.split_files`.
        time_limit_seconds: a minute of a source may take this long before it is given up. What was
            given up as it was encoded is tried again where an interrupted build goes on with a
            longer limit.
        portion: build these sources only, in a folder of `out` of their own, for `merge` to join.
        engine: who does the work; `num_workers` processes here by default.
        staging: where shards are made that go to a URL; see `Target`.
        remote: attempts, waits and storage_options for a URL.
        progress: called as work is done.

    Raises:
        BuildError: nothing can be built, and why; one source's fault is only counted.
    """
    table: Labels | FolderLabels | None = None
    if labels is not None:
        table = FolderLabels() if str(labels) == FOLDERS else Labels(Path(labels))
    repeated: Counter[tuple[str, str]] = Counter()
    notes: list[str] = []
    apart = Path(labels) if isinstance(table, Labels) and labels is not None else None
    listed = sources_of(sources, out, apart, repeated, notes)
    labelled = with_labels(split.take(listed) if split is not None else listed, table)
    workers = engine or LocalEngine(num_workers, time_limit_seconds)
    with Target(out, portion, staging, remote) as target, workers:
        try:
            summary = _Build(target, options, workers, progress).run(labelled)
        except OSError as error:
            raise BuildError(
                f"Building in {out} stopped: {error.strerror} ({error.filename or 'writing'}). "
                "Finished shards are kept: put that right, then run the same command again."
            ) from error
    if split is not None and (said := split.note()):
        notes.append(said)
    summary.repeated, summary.notes = repeated, notes
    if table is not None:
        summary.labels_without_source, summary.first_labels = table.without_source()
    return summary


class _Build:
    """One run of a build on a claimed target."""

    def __init__(
        self, target: Target, options: BuildOptions, engine: Engine, progress: Progress
    ) -> None:
        self._target, self._options, self._engine = target, options, engine
        self._progress = progress
        self._plan = target.state / NEW_PLAN_NAME
        self._done, self._total = 0, 0
        self._made_by = ""

    def run(self, sources: Iterator[Source]) -> BuildSummary:
        """Plan, build every shard that is not there yet, then write report and manifests."""
        plan = self._plan.with_suffix(".tmp")
        try:
            listing = self._write_plan(sources, plan)
            if not listing["sources"]:
                raise BuildError(
                    "The sources hold no file: there is nothing to build. Check the path."
                )
            options = self._options.as_dict()
            self._made_by = self._target.claim(options, plan, machine(), listing)
        except BuildError:
            plan.unlink(missing_ok=True)
            raise
        plan.rename(self._plan)
        if self._target.is_finished(parts(self._options)):
            return self._summary_of_finished()
        self._progress("build", 0, self._total)
        return self._finish({part: self._build_part(part) for part in parts(self._options)})

    def _write_plan(self, sources: Iterator[Source], path: Path) -> dict[str, Any]:
        """Probe the sources and write the plan; returns what tells this list from another."""
        portion, digest, labels = self._target.portion, hashlib.sha256(), hashlib.sha256()
        listed = 0

        def chosen() -> Iterator[_Numbered]:
            nonlocal listed
            for listed, source in enumerate(sources, start=1):
                digest.update(
                    f"{source.name}\0{source.range_text}\n".encode(errors="surrogateescape")
                )
                labels.update(jsonl_bytes([dict(source.row)]))
                if portion is None or portion.has(source.name):
                    yield listed, source

        with path.open("wb") as file:
            surveyed = self._engine.map(_survey, chosen(), self._options)
            for done, ((number, source), found) in enumerate(surveyed, start=1):
                planned = plan_source(number, source, found, self._options)
                self._total += planned.clips
                file.write(jsonl_bytes([planned.to_json()]))
                self._progress("probe", done, None)
        about = {"sources": listed, "sources_sha256": digest.hexdigest()}
        return about | {"labels_sha256": labels.hexdigest()}

    def _build_part(self, part: str) -> list[ShardEntry]:
        """Build the shards of one part that are not there yet; returns all of them, in order."""
        folder = self._target.layout.folder(part)
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob(".making-*"):  # by a task that was killed
            shutil.rmtree(left_over)
        entries: list[ShardEntry] = []
        sizes = self._target.sizes(part)

        def jobs() -> Iterator[ShardJob]:
            shards = cut_shards(read_plan(self._plan), part, self._options)
            for number, units in enumerate(shards):
                job = ShardJob(part, number, tuple(units))
                kept = self._target.kept(job, sizes, self._engine.time_limit_seconds)
                if kept is None:
                    yield job
                    continue
                if kept.entry is not None:
                    entries.append(kept.entry)
                self._count(job.num_clips)

        built = self._engine.build(jobs(), self._options, self._target.layout, self._count)
        with contextlib.closing(built):
            for shard in built:
                self._target.keep(shard, self._engine.time_limit_seconds)
                if shard.entry is not None:
                    entries.append(shard.entry)
        return sorted(entries, key=lambda entry: entry.name)

    def _count(self, clips: int) -> None:
        self._done += clips
        self._progress("build", self._done, self._total)

    def _finish(self, built: dict[str, list[ShardEntry]]) -> BuildSummary:
        summary = BuildSummary()
        final = self._target.path / REPORT_NAME
        temporary = final.with_name(REPORT_NAME + ".tmp")
        with temporary.open("wb") as file:
            lines = report.source_lines(self._plan, map(self._target.unit_reports, built))
            for line in report.count(lines, summary):
                file.write(jsonl_bytes([line]))
        # a portion may be empty, for all that one knows before the others are done
        if summary.clips or self._target.portion is not None:
            about = manifest_facts(self._options.as_dict(), self._made_by, summary)
            for part, shards in built.items():
                Manifest(tuple(shards), about).write(self._target.layout.folder(part))
        temporary.rename(final)
        self._target.publish("", REPORT_NAME)
        if not (summary.clips or self._target.portion is not None):
            self._target.withdraw()
            self._target.clear_state()
            raise BuildError(self._nothing_made(summary))
        for part in built:
            self._target.publish(part, MANIFEST_NAME)
        self._target.keep_plan(self._plan)
        self._target.clear_state()
        return summary

    def _summary_of_finished(self) -> BuildSummary:
        summary = BuildSummary(already_built=True)
        for _ in report.count(self._target.report(), summary):
            pass
        self._target.keep_plan(self._plan)  # the build may have been killed just before it did so
        self._target.clear_state()
        return summary

    def _nothing_made(self, summary: BuildSummary) -> str:
        causes = "; ".join(f"{n} × {cause}" for cause, n in summary.skipped_sources.most_common(5))
        named = "; ".join(f"{name}: {why}" for name, why in summary.first_skipped)
        all_of_them = summary.sources == len(summary.first_skipped)
        return (
            f"Of {plural(summary.sources, 'file')} none could become a clip: {causes}. "
            f"{'They' if all_of_them else 'The first'} are {named}. "
            f"{self._target.name}/{REPORT_NAME} has a line for each."
        )


def manifest_facts(options: dict[str, Any], made_by: str, summary: BuildSummary) -> dict[str, Any]:
    """What a manifest says of the build."""
    about = {"options": options, "made_by": made_by}
    return about | {"sources": summary.sources, "sources_made": summary.made}


_Numbered = tuple[int, Source]


def _survey(numbered: _Numbered, options: BuildOptions) -> Survey:
    return survey(numbered[1], options)
