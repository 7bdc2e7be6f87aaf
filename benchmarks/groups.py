"""Groups of settings that share data and measures, and a table of each.

A cell is the mean and spread over seeds, and in brackets the same of the method's own encoder
before its first step. What no method has a part in, chance or a baseline, has a row of its own.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from benchmarks.trials import (
    UNTRAINED,
    Column,
    Failed,
    Setting,
    Trial,
    mean_and_spread,
    values_of,
)


@dataclass(frozen=True)
class Group:
    """Rows of one table.

    Attributes:
        name: as `--groups` takes it.
        title: what the table's numbers are, a sentence.
        columns: the first one is drawn.
        beside: encoders of scores that are the same for every method: chance, …
        settings: the methods.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    beside: tuple[str, ...]
    settings: tuple[Setting, ...]

    def only(self, names: Sequence[str]) -> Self:
        """The group with those of its methods that are named."""
        kept = tuple(setting for setting in self.settings if setting.name in names)
        return replace(self, settings=kept)

    def overridden(self, *overrides: str) -> Self:
        """The group with "a.b=c" set in every config."""
        settings = [replace(s, overrides=(*s.overrides, *overrides)) for s in self.settings]
        return replace(self, settings=tuple(settings))


def table(group: Group, results: Mapping[str, Sequence[Trial | Failed]]) -> str:
    """A Markdown table under the group's title."""
    titles = [*(column.title for column in group.columns), "seeds", "steps", "CPU s"]
    lines = [
        group.title,
        "",
        f"| method | {' | '.join(titles)} |",
        f"| --- |{' ---: |' * len(titles)}",
    ]
    done: list[Trial] = []
    failures: list[Failed] = []
    for name in [setting.name for setting in group.settings]:
        trials = [trial for trial in results.get(name, ()) if isinstance(trial, Trial)]
        failures += [trial for trial in results.get(name, ()) if isinstance(trial, Failed)]
        done += trials
        cells = [*(_cell(trials, column) for column in group.columns), str(len(trials))]
        seconds = [trial.cpu_seconds for trial in trials if trial.cpu_seconds is not None]
        cells.append(str(trials[0].steps) if trials else "-")
        cells.append(f"{statistics.fmean(seconds):.0f}" if seconds else "-")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for encoder in group.beside:
        cells = [_beside(done, column, encoder) for column in group.columns]
        lines.append(f"| {encoder} | {' | '.join(cells)} | - | - | - |")
    lines += [f"\n{f.name}, seed {f.seed}, failed: {f.reason}" for f in failures]
    return "\n".join(lines)


def _cell(trials: Sequence[Trial], column: Column) -> str:
    trained = mean_and_spread(values_of(trials, column))
    untrained = values_of(trials, column, UNTRAINED)
    return f"{trained} ({mean_and_spread(untrained)})" if untrained else trained


def _beside(done: Sequence[Trial], column: Column, encoder: str) -> str:
    """Of any run the same, unless it is measured with what the runs learned."""
    values = values_of(done, column, encoder)
    return mean_and_spread(values[:1] if len(set(values)) == 1 else values)
