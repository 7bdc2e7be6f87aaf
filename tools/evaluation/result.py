"""What an evaluation found: scores with intervals beside chance, in metrics.json and on screen.

Every task writes the same schema:

    {"schema": "gdt-metrics/1", "task": …, "identity": …, "run": {…}, "data": {role: {…}},
     "settings": {…}, "interval": …, "left_out": [{"what", "why"}], "notes": […],
     "scores": [{"of", "encoder", "metric", "value", "low", "high"}]}

A folder keeps the evaluation it has: another one is refused there.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shards.format.json_text import plain_json
from shards.plural import plural
from shards.storage.text_files import read_small
from tools.evaluation.errors import EvaluationError

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = "gdt-metrics/1"
METRICS = "metrics.json"
CHANCE = "chance"


@dataclass(frozen=True)
class Score:
    """One number.

    Attributes:
        of: what is scored: a modality ("video") or a direction ("audio → video").
        encoder: "trained", "untrained" or "chance".
        metric: with its setting, where it has one: "accuracy, k = 5".
        value: a share in [0, 1], or a rank.
        low, high: the 95 % interval, where there is one.
    """

    of: str
    encoder: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class SplitFacts:
    """A data set in an evaluation: where it lies, what it is, and what became of its clips."""

    path: str
    fingerprint: str
    clips: int
    skipped: Mapping[str, int]

    @property
    def num_skipped(self) -> int:
        """Clips that could not be decoded."""
        return sum(self.skipped.values())


@dataclass(frozen=True)
class Evaluation:
    """The outcome of one task for one run.

    Attributes:
        task: its name.
        run: path, step and weights of the run.
        data: role ("train", "test") → data set.
        settings: of the task, with the segments and the protocol.
        interval: what the intervals are over.
        scores: in the order of the table.
        left_out: what could not be scored, and why.
        notes: what a reader must know.
    """

    task: str
    run: Mapping[str, Any]
    data: Mapping[str, SplitFacts]
    settings: Mapping[str, Any]
    interval: str
    scores: Sequence[Score]
    left_out: Sequence[Mapping[str, str]] = ()
    notes: Sequence[str] = field(default=())

    @property
    def identity(self) -> str:
        """Digest of what was asked: the same question has the same one."""
        asked = {
            "task": self.task,
            "weights": self.run["weights"],
            "data": {role: facts.fingerprint for role, facts in self.data.items()},
            "settings": self.settings,
        }
        return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]

    def value(self, of: str, metric: str, encoder: str = "trained") -> float:
        """One score's value.

        Raises:
            KeyError: there is none of that name.
        """
        for score in self.scores:
            if (score.of, score.metric, score.encoder) == (of, metric, encoder):
                return score.value
        raise KeyError(f"no {metric} of {of} by {encoder}")

    def to_json(self) -> str:
        """The content of metrics.json."""
        content = {
            "schema": SCHEMA,
            "task": self.task,
            "identity": self.identity,
            "run": dict(self.run),
            "data": {role: asdict(facts) for role, facts in self.data.items()},
            "settings": dict(self.settings),
            "interval": self.interval,
            "left_out": [dict(entry) for entry in self.left_out],
            "notes": list(self.notes),
            "scores": [asdict(score) for score in self.scores],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Evaluation":
        """Read what `write` wrote.

        Raises:
            EvaluationError: it is something else.
        """
        try:
            content = plain_json(read_small(path))
            if content["schema"] != SCHEMA:
                raise ValueError(f"its schema is {content['schema']!r}, expected {SCHEMA!r}")
            return cls(
                content["task"],
                content["run"],
                {role: SplitFacts(**facts) for role, facts in content["data"].items()},
                content["settings"],
                content["interval"],
                [Score(**score) for score in content["scores"]],
                content["left_out"],
                content["notes"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                f"{path}: no results of this version's `gdt evaluate`: {error}"
            ) from error

    def write(self, out: Path) -> None:
        """Write metrics.json into a folder.

        Raises:
            EvaluationError: the folder holds another evaluation.
        """
        check_out(out, self.identity)
        out.mkdir(parents=True, exist_ok=True)
        part = out / f"{METRICS}.part"
        part.write_text(self.to_json(), encoding="utf-8")
        part.replace(out / METRICS)


def check_out(out: Path, identity: str) -> None:
    """Refuse a folder that holds the results of another evaluation.

    Raises:
        EvaluationError: it does.
    """
    path = out / METRICS
    if not path.exists():
        return
    try:
        before = Evaluation.read(path)
    except EvaluationError as error:
        raise EvaluationError(f"{error}. Choose another --out, or move that file away") from error
    if before.identity != identity:
        data = ", ".join(f"{role} {facts.path}" for role, facts in before.data.items())
        raise EvaluationError(
            f"{out} holds another evaluation ({before.task}, step {before.run['step']}, {data}), "
            "and results are not overwritten: choose another --out, or delete that folder"
        )


def number_text(metric: str, value: float) -> str:
    """A score as tables show it: shares in per cent, ranks and indices plain."""
    if "rank" in metric:
        return f"{value:.1f}"
    if metric.startswith(("NMI", "ARI", "MRR", "mAP", "nDCG")):
        return f"{value:.3f}"
    return f"{100 * value:.1f} %"


def interval_text(score: Score) -> str:
    """The interval in as few characters, or nothing."""
    if score.low is None or score.high is None:
        return ""
    low, high = (number_text(score.metric, x).removesuffix(" %") for x in (score.low, score.high))
    return f"{low}–{high}"


def print_evaluation(result: Evaluation, title: str, out: Path) -> None:
    """Print the table beside chance, what was left out, and where the files are."""
    from tools.terminal import Terminal

    console = Terminal()
    print_table(title, [("", result)])
    for line in report_lines(result, out):
        console.say(line)
    for note in result.notes:
        console.say(note, style="yellow")


def print_table(title: str, named: Sequence[tuple[str, Evaluation]]) -> None:
    """Print the scores of evaluations, each under its name, a row for each encoder and direction.

    Where the terminal is too narrow for the intervals, they are left out.
    """
    from rich.measure import Measurement

    from tools.terminal import Terminal

    console = Terminal()
    table = _table(title, named, with_intervals=True)
    width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    if console.is_terminal and width > console.width:
        table = _table(title, named, with_intervals=False)
    elif width > console.width:
        console = Terminal(width=width)  # a file or a pipe has no edge
    console.print(table)


def _table(title: str, named: Sequence[tuple[str, Evaluation]], *, with_intervals: bool) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    metrics = list(dict.fromkeys(score.metric for _, result in named for score in result.scores))
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    headers = ["run", "", ""] if any(name for name, _ in named) else ["", ""]
    for header in headers:
        table.add_column(header, no_wrap=True)
    for metric in metrics:
        table.add_column(metric, justify="right", no_wrap=True)
    for name, result in named:
        cells = {(s.of, s.encoder, s.metric): s for s in result.scores}
        for number, (of, encoder) in enumerate(
            dict.fromkeys((s.of, s.encoder) for s in result.scores)
        ):
            words = [name if number == 0 else ""] * (len(headers) - 2)
            words += [of, encoder_text(encoder, result)]
            for metric in metrics:
                score = cells.get((of, encoder, metric))
                shown = "" if score is None else number_text(metric, score.value)
                interval = interval_text(score) if score and with_intervals else ""
                words.append(f"{shown}\n{interval}".rstrip())
            table.add_row(*words, style="dim" if encoder == CHANCE else None)
    return table


def encoder_text(encoder: str, result: Evaluation) -> str:
    """What a row's encoder is called."""
    return plural(int(result.run["step"]), "step") if encoder == "trained" else encoder


def report_lines(result: Evaluation, out: Path) -> list[str]:
    """The lines under the table."""
    lines = []
    for role, facts in result.data.items():
        causes = ", ".join(f"{stage} {count}" for stage, count in facts.skipped.items())
        skipped = f"; {facts.num_skipped} skipped ({causes})" if causes else ""
        lines.append(f"{role:<11} {facts.path}: {plural(facts.clips, 'clip')}{skipped}")
    places = result.settings.get("places")
    segments = "" if places is None else f"{plural(len(places), 'segment')} a clip; "
    lines.append(f"{'settings':<11} {segments}small numbers: {result.interval}")
    lines += [f"{'left out':<11} {entry['what']}: {entry['why']}" for entry in result.left_out]
    lines.append(f"{'metrics':<11} {out / METRICS}")
    return lines
