"""Trials: one run for each setting and seed, as a table of means and spreads beside chance.

    settings × seeds ─► tools.fit ─► tools.evaluation ─► trial.json ─► table, picture

Everything goes through the product, in one process, so that importing costs once. A trial on disk
is not run again, one that was interrupted goes on from its checkpoint, and one whose config, data,
tasks or scored steps have changed is another trial. What it does not see is that the code or a
default has changed: give another folder then.

    FOLDER/NAME-seed-0-IDENTITY/trial.json   what was found; beside it the run, without its weights
"""

import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from shards import open_samples
from tools import fit
from tools.display.style import ACCENT, FAINT, INK, LABEL, WARM, headline, new_figure, plain_axes
from tools.display.style import save as save_picture
from tools.evaluation.result import CHANCE, Evaluation, Score
from tools.evaluation.runner import Request, Task, evaluate, evenly
from tools.runs.config import Config, load_config
from tools.runs.config_files import find_config, read_tables
from tools.runs.run_folder import RunFolder

TRIAL = "trial.json"
TRAINED, UNTRAINED = "trained", "untrained"
END = "<!-- end -->"


class Scorer(Protocol):
    """Scores the last checkpoint of a run by what is no task on a data set of clips."""

    @property
    def name(self) -> str:
        """As a column's task."""

    def settings(self) -> Mapping[str, Any]:
        """What its numbers depend on, besides the run."""

    def __call__(self, run: Path) -> Evaluation:
        """Score a run folder."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one row of a table stands for: a config, and how its runs are scored.

    Attributes:
        name: of the row, and of files.
        config: TOML file, or the name of one that comes along.
        overrides: "a.b=c", as `gdt pretrain --set` takes them; the seed is set by the trial.
        data: role ("train", "test") → the data set that is scored; a task that needs no labels
            takes the test set alone.
        tasks: that score.
        segments: evenly spaced ones of a clip.
        modalities: those to score; all of the plan where empty.
        score_every: steps between scores; at the end only where None.
        scorers: that score in ways of their own, at the end.
        train: trains a config in a folder, as `tools.fit` does; `resume` says that it was begun.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    data: Mapping[str, Path]
    tasks: tuple[Task, ...]
    segments: int = 1
    modalities: tuple[str, ...] = ()
    score_every: int | None = None
    scorers: "tuple[Scorer, ...]" = ()
    train: Callable[..., object] = fit

    def resolved(self, seed: int) -> Config:
        """The config of the trial of one seed."""
        return load_config(find_config(self.config), self._all_overrides(seed))

    def tables(self, seed: int) -> dict[str, Any]:
        """What it states, without defaults."""
        return read_tables(find_config(self.config), self._all_overrides(seed))

    def _all_overrides(self, seed: int) -> list[str]:
        kept = self.score_every
        extra = [f"seed={seed}", "trainer.loggers=[]"]
        extra += [] if kept is None else [f"trainer.keep_every_steps={kept}"]
        return [*self.overrides, *extra]


@dataclass(frozen=True)
class Point:
    """One score of one trial after so many steps; the untrained encoder's and chance's after 0."""

    step: int
    task: str
    score: Score


@dataclass(frozen=True)
class Trial:
    """What came of one run.

    Attributes:
        name, seed: whose.
        steps: of the whole run.
        points: every score.
        cpu_seconds: of training; None where it was interrupted.
    """

    name: str
    seed: int
    steps: int
    points: tuple[Point, ...]
    cpu_seconds: float | None

    def value(self, column: "Column", encoder: str, step: int | None = None) -> float | None:
        """One number, of the last step by default; None where there is none."""
        wanted = (self.steps if step is None else step) if encoder == TRAINED else 0
        for point in self.points:
            score = point.score
            of = column.chance_of if encoder == CHANCE else column.of
            if (point.step, point.task, score.of, score.encoder, score.metric) == (
                wanted,
                column.task,
                of,
                encoder,
                column.metric,
            ):
                return score.value
        return None

    def scored_steps(self) -> list[int]:
        """The steps of which there are scores of the trained encoder."""
        return sorted({p.step for p in self.points if p.score.encoder == TRAINED})

    def write(self, path: Path) -> None:
        """Keep it."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")
        partial.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` kept."""
        found = json.loads(path.read_text(encoding="utf-8"))
        points = (Point(p["step"], p["task"], Score(**p["score"])) for p in found.pop("points"))
        return cls(points=tuple(points), **found)


@dataclass(frozen=True)
class Column:
    """Which score a column shows.

    Attributes:
        title: over it.
        task, of, metric: as in metrics.json.
        chance_of: what its chance is of there: "same clip", …; nothing where a task has one only.
    """

    title: str
    task: str
    of: str
    metric: str
    chance_of: str = ""


@dataclass(frozen=True)
class Failed:
    """A run that ended in an error, which is shown in its place and tried again the next time."""

    name: str
    seed: int
    reason: str


def run_trials(
    settings: Iterable[Setting],
    seeds: Sequence[int],
    folder: Path,
    say: Callable[[str], None] = print,
) -> dict[str, list[Trial | Failed]]:
    """Run what is not on disk yet, seed by seed, so that an interrupted table has every row.

    Args:
        settings: their names differ.
        seeds: of weights, order and augmentation.
        folder: where trials are kept.
        say: gets a line for each trial.

    Returns:
        Name → its trials, in the order of the seeds.
    """
    found: dict[str, list[Trial | Failed]] = {setting.name: [] for setting in settings}
    for seed in seeds:
        for setting in settings:
            trial = run_trial(setting, seed, folder)
            found[setting.name].append(trial)
            say(_line(trial))
    return found


def kept_trials(
    settings: Iterable[Setting], seeds: Sequence[int], folder: Path
) -> dict[str, list[Trial | Failed]]:
    """What `run_trials` would find on disk; nothing is run, and settings without a trial lack."""
    found: dict[str, list[Trial | Failed]] = {}
    for setting in settings:
        paths = [_path(setting, seed, folder) / TRIAL for seed in seeds]
        if trials := [Trial.read(path) for path in paths if path.exists()]:
            found[setting.name] = list(trials)
    return found


def run_trial(setting: Setting, seed: int, folder: Path) -> Trial | Failed:
    """One trial, from disk where it is there."""
    config = setting.resolved(seed)
    path = _path(setting, seed, folder)
    if (path / TRIAL).exists():
        return Trial.read(path / TRIAL)
    resume = RunFolder(path).config.exists()
    began = time.process_time()
    try:
        setting.train(config, path, resume=resume)
        cpu_seconds = None if resume else time.process_time() - began
        points, steps = _score(setting, path)
    except Exception as error:  # noqa: BLE001 - whatever ended it is its row
        return Failed(setting.name, seed, " ".join(str(error).split()) or type(error).__name__)
    trial = Trial(setting.name, seed, steps, tuple(points), cpu_seconds)
    trial.write(path / TRIAL)
    for heavy in ("checkpoints", "embeddings"):
        shutil.rmtree(path / heavy, ignore_errors=True)
    return trial


def _score(setting: Setting, path: Path) -> tuple[list[Point], int]:
    """Every score, and the run's last step."""
    points = list(_points(setting, path, "last"))
    for scorer in setting.scorers:
        points += _points_of(scorer(path), scorer.name)
    steps = max(point.step for point in points)
    for kept in RunFolder(path).kept_steps():
        if kept < steps:
            points += _points(setting, path, str(kept))
    return points, steps


def _points(setting: Setting, path: Path, checkpoint: str) -> Iterator[Point]:
    for task in setting.tasks:
        request = Request(
            run=path,
            data=setting.data if task.needs_labels else {"test": setting.data["test"]},
            modalities=setting.modalities,
            places=evenly(setting.segments),
            untrained=checkpoint == "last",
            checkpoint=checkpoint,
            batch_size=64,
            threads=1,
            device="cpu",
        )
        result = evaluate(task, request).result
        found = _points_of(result, task.name)
        yield from (p for p in found if checkpoint == "last" or p.score.encoder == TRAINED)


def _points_of(result: Evaluation, task: str) -> Iterator[Point]:
    """Every score; all but the trained encoder's after 0 steps."""
    for score in result.scores:
        yield Point(result.run["step"] if score.encoder == TRAINED else 0, task, score)


def _path(setting: Setting, seed: int, folder: Path) -> Path:
    """Where a trial lies: its name ends in a digest of all that it depends on but the code."""
    data = {role: open_samples(path).fingerprint for role, path in setting.data.items()}
    asked: Any = [
        setting.tables(seed),
        setting.resolved(seed).data.open().fingerprint,
        data,
        [[task.name, task.settings()] for task in setting.tasks],
        [setting.segments, setting.modalities, setting.score_every],
        setting.train.__name__,
        *([scorer.name, dict(scorer.settings())] for scorer in setting.scorers),
    ]
    identity = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    return folder / f"{setting.name}-seed-{seed}-{identity}"


def _line(trial: Trial | Failed) -> str:
    begin = f"{trial.name:<16} seed {trial.seed}"
    if isinstance(trial, Failed):
        return f"{begin}  failed: {trial.reason}"
    cpu = "" if trial.cpu_seconds is None else f"  {trial.cpu_seconds:6.1f} CPU s"
    last = [
        f"{p.score.of} {p.score.metric} {100 * p.score.value:.1f} %"
        for p in trial.points
        if p.step == trial.steps and p.score.value <= 1
    ]
    return f"{begin}{cpu}  {'; '.join(last[:3])}"


def mean_and_spread(values: Sequence[float], unit: str = "%") -> str:
    """The mean ± the standard deviation over seeds; of shares in per cent."""
    if not values:
        return "-"
    scale = 100 if unit == "%" else 1
    mean = scale * statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.1f}"
    return f"{mean:.1f} ± {scale * statistics.stdev(values):.1f}"


def values_of(
    trials: Sequence[Trial | Failed],
    column: Column,
    encoder: str = TRAINED,
    step: int | None = None,
) -> list[float]:
    """One number of each trial that has it."""
    found = [t.value(column, encoder, step) for t in trials if isinstance(t, Trial)]
    return [value for value in found if value is not None]


def table(results: Mapping[str, Sequence[Trial | Failed]], columns: Sequence[Column]) -> str:
    """A Markdown table: a row a setting, each number beside the untrained encoder and chance."""
    titles = [f"{c.title} | untrained | chance" for c in columns]
    lines = [
        f"| run | {' | '.join(titles)} | steps | CPU s |",
        f"| --- |{' ---: |' * (3 * len(columns) + 2)}",
    ]
    for name, trials in results.items():
        done = [trial for trial in trials if isinstance(trial, Trial)]
        cells = [
            mean_and_spread(values_of(done, column, encoder))
            for column in columns
            for encoder in (TRAINED, UNTRAINED, CHANCE)
        ]
        seconds = [t.cpu_seconds for t in done if t.cpu_seconds is not None]
        steps = str(done[0].steps) if done else "-"
        cpu = f"{statistics.fmean(seconds):.0f}" if seconds else "-"
        lines.append(f"| {name} | {' | '.join(cells)} | {steps} | {cpu} |")
    failures = [t for trials in results.values() for t in trials if isinstance(t, Failed)]
    lines += [f"\n{f.name}, seed {f.seed}, failed: {f.reason}" for f in failures]
    return "\n".join(lines)


def put_into(page: Path, marker: str, text: str) -> None:
    """Put text between a marker and the next `END` of a Markdown page.

    Raises:
        ValueError: the page has no such marker.
    """
    before, found, rest = page.read_text(encoding="utf-8").partition(marker)
    _, end, after = rest.partition(END)
    if not (found and end):
        raise ValueError(f"{page} has no line {marker!r} with {END!r} after it: where to write?")
    page.write_text(f"{before}{marker}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def draw(
    results: Mapping[str, Sequence[Trial | Failed]], column: Column, out: Path, title: str
) -> None:
    """A row a setting: each seed, their mean, the untrained encoder's mean, and chance."""
    rows = {name: trials for name, trials in results.items() if values_of(trials, column)}
    figure = new_figure(7.6, 1.3 + 0.3 * len(rows))
    height = figure.get_size_inches()[1]
    axes = figure.add_axes((0.24, 0.55 / height, 0.72, 1 - 1.15 / height))
    for place, trials in enumerate(rows.values()):
        trained = [100 * value for value in values_of(trials, column)]
        axes.plot(trained, [place] * len(trained), "o", color=ACCENT, alpha=0.35, markersize=5)
        axes.plot(statistics.fmean(trained), place, "|", color=ACCENT, markersize=15, mew=2.5)
        for encoder, colour, mark in ((UNTRAINED, WARM, "|"), (CHANCE, FAINT, "x")):
            if values := values_of(trials, column, encoder):
                axes.plot(100 * statistics.fmean(values), place, mark, color=colour, markersize=8)
    axes.set_yticks(range(len(rows)), rows, color=INK)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{column.title} (%)", **LABEL)
    plain_axes(axes, grid="x")
    headline(figure, title, "blue: seeds and their mean · red: untrained · ×: chance")
    save_picture(figure, out)
