"""What is kept of a finished build: its options, and the plan that its shards were made from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.building.build import manifest_facts
from shards.building.clip_plan import cut_shards
from shards.building.jobs import ShardJob
from shards.building.planned_source import read_plan
from shards.building.report import BuildSummary, UnitReport, count, read_report
from shards.building.target import BUILD_NAME, PLAN_NAME, REPORT_NAME, STATE_NAME
from shards.errors import BuildError
from shards.format.json_text import plain_json
from shards.options import BuildOptions


@dataclass(frozen=True)
class KeptPlan:
    """What is known of a build: its options, and its plan and report where they are there."""

    options: BuildOptions
    plain_options: dict[str, Any]
    made_by: str
    home: Path

    @classmethod
    def read(cls, home: Path) -> "KeptPlan":
        """Read it from a finished build's own folder.

        Raises:
            BuildError: build.json is damaged.
        """
        try:
            build = plain_json((home / BUILD_NAME).read_bytes())
            plain, made_by = dict(build["options"]), str(build.get("made_by", ""))
        except (ValueError, KeyError, TypeError) as error:
            raise BuildError(
                f"{home / BUILD_NAME} is damaged or of an older version ({error!r}); build the "
                "data set again."
            ) from error
        return cls(BuildOptions.from_dict(plain), plain, made_by, home)

    @property
    def has_jobs(self) -> bool:
        """Whether the plan was kept."""
        return (self.home / STATE_NAME / PLAN_NAME).exists()

    def jobs(self, part: str) -> Iterator[ShardJob]:
        """The shards of a part, as they were planned."""
        plan = read_plan(self.home / STATE_NAME / PLAN_NAME)
        for number, units in enumerate(cut_shards(plan, part, self.options)):
            yield ShardJob(part, number, tuple(units))

    def lacks_clips(self, units: Sequence[UnitReport]) -> bool:
        """Whether units that were made again leave out clips that the report has as made."""
        plan = read_plan(self.home / STATE_NAME / PLAN_NAME)
        report = read_report(self.home / REPORT_NAME)
        numbers = {unit.number for unit in units}
        before: dict[int, dict[str, int]] = {
            planned.number: reported.get("skipped_clips", {})
            for planned, reported in zip(plan, report, strict=True)
            if planned.number in numbers
        }
        return any(
            clips > before[unit.number].get(cause, 0)
            for unit in units
            for cause, clips in unit.skipped.items()
        )

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the build."""
        path = self.home / REPORT_NAME
        if not path.exists():
            raise BuildError(f"{path} is missing, and the manifest takes its counts from there")
        summary = BuildSummary()
        for _ in count(read_report(path), summary):
            pass
        return manifest_facts(self.plain_options, self.made_by, summary)
