"""How much memory a build takes for each source: its list, plan, cut, report and manifest.

    python -m benchmarks.plan_memory --rows 200000 [--files]

Everything runs but what worker processes do: they are replaced at their border by an engine that
says of each source what a probe would, and of each shard that it is there. Builds a tenth of the
rows and all of them, each in a process of its own, and compares.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

from shards import BuildOptions
from shards.building.build import build
from shards.building.jobs import BuiltShard, Layout, ShardJob
from shards.building.report import UnitReport
from shards.building.survey import Survey
from shards.format.manifest import ShardEntry
from shards.media.probe import Probe


class TellingEngine:
    """An engine that does nothing and says that all went well: a clip of each source."""

    time_limit_seconds = 600.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(
        self, _function: Callable[..., Any], tasks: Iterable[Any], *_arguments: object
    ) -> Iterator[tuple[Any, Any]]:
        """What a survey says of each source."""
        for task in tasks:
            probe = Probe(
                width=320,
                height=180,
                origin=Fraction(0),
                duration_seconds=Fraction(10),
                frame_rate=Fraction(25),
                has_audio=True,
                size=1_000_000,
                version="1700000000000000000",
            )
            yield task, Survey(probe)

    def build(
        self,
        jobs: Iterable[ShardJob],
        _options: BuildOptions,
        _layout: Layout,
        advance: Callable[[int], None],
    ) -> Generator[BuiltShard]:
        """Every shard as if it were written."""
        for job in jobs:
            units = tuple(
                UnitReport(unit.number, unit.source.name, unit.part, unit.num_clips)
                for unit in job.units
            )
            advance(job.num_clips)
            digest = "0" * 64
            yield BuiltShard(job, ShardEntry(job.name, 1, digest, job.num_clips, 1, digest), units)


def plan_and_report(
    num_rows: int,
    folder: Path,
    progress: Callable[[str, int, int | None], None],
    files: bool = False,
) -> None:
    """Build from a list of so many rows, or from so many files, in an empty folder."""
    path = folder / "films" if files else folder / "list.jsonl"
    if files:
        for n in range(num_rows):
            if not n % 1000:
                (path / f"{n // 1000:04d}").mkdir(parents=True)
            (path / f"{n // 1000:04d}/{n:08d}.mp4").touch()
    else:
        with path.open("w", encoding="utf-8") as file:
            for n in range(num_rows):
                row = {"path": f"films/{n // 1000:04d}/{n:08d}.mp4", "label": f"{n % 400}", "n": n}
                file.write(json.dumps(row) + "\n")
    options = BuildOptions()
    summary = build([path], folder / "out", options, engine=TellingEngine(), progress=progress)
    assert (summary.sources, summary.clips) == (num_rows, num_rows)


def measure(num_rows: int, files: bool = False) -> dict[str, float]:
    """Peak bytes of this process after such a build, and the seconds of a CPU it took."""
    began, planned = time.process_time(), 0.0

    def progress(stage: str, done: int, _total: int | None) -> None:
        nonlocal planned
        if stage == "build" and not done:
            planned = time.process_time() - began

    with tempfile.TemporaryDirectory() as folder:
        plan_and_report(num_rows, Path(folder), progress, files=files)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    seconds = time.process_time() - began
    return {"rows": num_rows, "peak_bytes": peak, "planning": planned, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--files", action="store_true", help="empty files in place of a list")
    parser.add_argument("--alone", action="store_true", help="one measurement, as json")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(measure(given.rows, given.files)))
        return
    found = []
    for rows in (given.rows // 10, given.rows):
        command = [sys.executable, "-m", "benchmarks.plan_memory", "--rows", str(rows), "--alone"]
        command += ["--files"] if given.files else []
        found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
        print(
            "{rows:>9} sources: peak {peak_bytes:,.0f} bytes, {planning:.1f} s of a CPU until the "
            "first clip, {seconds:.1f} s in all".format(**found[-1])
        )
    few, many = found
    grown = (many["peak_bytes"] - few["peak_bytes"]) / (many["rows"] - few["rows"])
    print(f"{grown:.0f} bytes for each source more")


if __name__ == "__main__":
    main()
