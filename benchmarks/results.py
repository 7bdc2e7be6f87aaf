"""Results of the configs on data that anyone can make: `python -m benchmarks.results`.

    gdt samples … ─► gdt shards build … ─► trials (tools.fit, tools.evaluation) ─► docs/results.md

Three data sets: eight minutes of a film, the synthetic corpus, and digits drawn and spoken. A row
is a config on one of them, as it stands in its file, with three seeds. Rows are run in order as
long as what they are known to cost fits into `--minutes` of CPU time; the others are listed with
their cost and command. CMA, which goes on from a run of AVID, is not among them. Methods of images
are compared by benchmarks/image_methods.py, those of frames, sounds and words by
benchmarks/video_methods.py, at less cost.

    python -m benchmarks.results --minutes 80 --into docs/results.md
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import torch

from benchmarks.trials import (
    Column,
    Failed,
    Setting,
    Trial,
    draw,
    kept_trials,
    put_into,
    run_trials,
    table,
)
from tools.evaluation.protocol import load_protocol
from tools.evaluation.runner import Task
from tools.evaluation.tasks.clustering import Clustering
from tools.evaluation.tasks.knn import Knn
from tools.evaluation.tasks.retrieval import Retrieval

BEGIN: Final = "<!-- tables: python -m benchmarks.results --into docs/results.md -->"
FRAMES: Final = ("--clip-seconds", "4", "--size", "96x96")


@dataclass(frozen=True)
class Corpus:
    """A data set: how it is made, from DATA/NAME to DATA/shards/NAME/train and val.

    Attributes:
        title: over its table.
        sample: arguments of `gdt samples`.
        build: arguments of `gdt shards build` for each part.
        parts: what is built: a folder or list in DATA/NAME → a folder in DATA/shards/NAME.
        columns: what is shown of its runs.
    """

    title: str
    sample: tuple[str, ...]
    build: tuple[str, ...]
    parts: Mapping[str, str]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Row:
    """A config on a corpus, and what one seed of it costs: training and scores."""

    corpus: str
    config: str
    cpu_minutes: float
    columns: tuple[Column, ...] = ()


def found(title: str, of: str, metric: str, level: str = "same clip") -> Column:
    """A column of retrieval."""
    return Column(title, "retrieval", of, metric, level)


def voted(of: str) -> Column:
    """A column of kNN."""
    return Column(f"{of}: label by kNN", "knn", of, "accuracy, k = 5")


WAYS: Final = ("video → audio", "audio → video")
#: Of methods that do not only compare a clip's picture with its sound: what features tell apart.
NEIGHBOURS: Final = (
    voted("video"),
    voted("audio"),
    Column("video: clusters, NMI", "clustering", "video", "NMI"),
    Column("audio: clusters, NMI", "clustering", "audio", "NMI"),
)
CORPORA: Final = {
    "film": Corpus(
        "Film: eight minutes of Big Buck Bunny, held-out seconds of the same scenes",
        ("film",),
        (
            *("--clip-seconds", "28", "--holdout-clip-seconds", "2"),
            *("--holdout-every", "40", "--holdout", "6", "--gap-seconds", "3"),
        ),
        {"story.csv": ""},
        tuple(found(f"{way} {metric}", way, metric) for metric in ("R@5", "R@10") for way in WAYS),
    ),
    "synthetic": Corpus(
        "Synthetic: shapes whose look and motion go with their sound, held-out videos",
        ("synthetic",),
        FRAMES,
        {"train": "train", "val": "val"},
        tuple(found(f"{way} R@1", way, "R@1") for way in WAYS),
    ),
    "digits": Corpus(
        "Digits: drawn by some people and spoken by others, held-out people",
        ("digits",),
        ("--clip-seconds", "1", "--fps", "10", "--size", "64x64"),
        {"train": "train", "val": "val"},
        (
            *(
                found(
                    f"{way}, same digit, R@1",
                    f"{way}, same label",
                    "R@1",
                    "same label, other modality",
                )
                for way in WAYS
            ),
            voted("video"),
            voted("audio"),
        ),
    ),
}
ROWS: Final = (
    Row("synthetic", "synthetic", 4),
    Row("digits", "digits", 5),
    Row("film", "demo", 6),
    Row("synthetic", "avid", 5, NEIGHBOURS),
    Row("synthetic", "selavi", 5, NEIGHBOURS),
)


def gdt(*arguments: str | Path) -> None:
    """Run the product's command.

    Raises:
        RuntimeError: it failed; the message is its last line.
    """
    command = [sys.executable, "-m", "tools", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RuntimeError(f"gdt {' '.join(command[3:])}: {said[-1] if said else 'failed'}")


def make_corpus(name: str, data: Path) -> None:
    """Make what of a corpus is not there yet."""
    corpus, videos, shards = CORPORA[name], data / name, data / "shards" / name
    if (shards / "train").exists() and (shards / "val").exists():
        return
    if not videos.exists():
        gdt("samples", *corpus.sample, "--out", videos)
    labels = videos / "labels.csv"
    labelled = ("--labels", str(labels)) if labels.exists() else ()
    for source, part in corpus.parts.items():
        gdt("shards", "build", videos / source, "--out", shards / part, *corpus.build, *labelled)


def setting_of(row: Row, data: Path, overrides: Sequence[str] = ()) -> Setting:
    """How a row is run and scored."""
    shards = data / "shards" / row.corpus
    tasks: list[Task] = []
    columns = row.columns or CORPORA[row.corpus].columns
    if any(column.task == "retrieval" for column in columns):
        tasks.append(Retrieval(load_protocol("default")))
    if any(column.task == "knn" for column in columns):
        tasks.append(Knn((5,)))
    if any(column.task == "clustering" for column in columns):
        tasks.append(Clustering())
    return Setting(
        name=f"{row.corpus}-{row.config}",
        config=row.config,
        overrides=(f"data.shards={shards / 'train'}", *overrides),
        data={"train": shards / "train", "test": shards / "val"},
        tasks=tuple(tasks),
        segments=5 if row.corpus != "digits" else 1,
    )


def chosen(rows: Sequence[Row], minutes: float, seeds: int) -> tuple[list[Row], list[Row]]:
    """Those that fit into so many CPU minutes, in order, and the others."""
    taken, left, spent = [], [], 0.0
    for row in rows:
        cost = row.cpu_minutes * seeds
        if spent + cost <= minutes:
            taken.append(row)
            spent += cost
        else:
            left.append(row)
    return taken, left


def tables(
    results: Mapping[Row, Sequence[Trial | Failed]],
    left: Sequence[Row],
    broken: Mapping[str, str],
    seeds: int,
) -> str:
    """A table for each corpus and kind of score, and one of what was not run."""
    parts = []
    for name, corpus in CORPORA.items():
        rows = {row: trials for row, trials in results.items() if row.corpus == name}
        for columns in dict.fromkeys(row.columns or corpus.columns for row in rows):
            of_kind = {
                row.config: trials
                for row, trials in rows.items()
                if (row.columns or corpus.columns) == columns
            }
            parts.append(f"## {corpus.title}\n\n{table(of_kind, columns)}")
    if left:
        lines = ["## Not run", "", "| config | data | CPU minutes | command |"]
        lines += ["| --- | --- | ---: | --- |"]
        for row in left:
            command = f"gdt pretrain {row.config} --set data.shards=data/shards/{row.corpus}/train"
            lines.append(
                f"| {row.config} | {row.corpus} | {seeds * row.cpu_minutes:.0f} | `{command}` |"
            )
        lines += [f"\n{name} was not made: {why}" for name, why in broken.items()]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.results", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"), help="where corpora are made")
    parser.add_argument("--out", type=Path, default=Path("runs/results"), help="trials")
    parser.add_argument("--minutes", type=float, default=80, help="of CPU, for all seeds")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpora", default=",".join(CORPORA), help="with commas between")
    parser.add_argument("--set", action="append", default=[], help="override a key of all configs")
    parser.add_argument("--kept", action="store_true", help="show what is in --out, run nothing")
    parser.add_argument("--into", type=Path, help="a Markdown file whose tables to replace")
    asked = parser.parse_args()
    names = asked.corpora.split(",")
    rows, left = chosen([row for row in ROWS if row.corpus in names], asked.minutes, asked.seeds)
    left += [row for row in ROWS if row.corpus not in names]
    broken: dict[str, str] = {}
    for name in dict.fromkeys(row.corpus for row in rows):
        try:
            make_corpus(name, asked.data)
        except RuntimeError as error:
            broken[name] = str(error)
    left += [row for row in rows if row.corpus in broken]
    rows = [row for row in rows if row.corpus not in broken]
    settings = {row: setting_of(row, asked.data, asked.set) for row in rows}
    run = kept_trials if asked.kept else run_trials
    trials = run(settings.values(), range(asked.seeds), asked.out)
    results = {r: trials[setting.name] for r, setting in settings.items() if setting.name in trials}
    left = [row for row in settings if row not in results] + left
    text = tables(results, left, broken, asked.seeds)
    print(text)
    for name in names:
        of_corpus = {row.config: of for row, of in results.items() if row.corpus == name}
        if of_corpus:
            corpus = CORPORA[name]
            draw(of_corpus, corpus.columns[0], asked.out / f"{name}.png", corpus.title)
    if asked.into is not None:
        about = f"{datetime.now(tz=UTC):%Y-%m-%d}, torch {torch.__version__}, {asked.seeds} seeds."
        put_into(asked.into, BEGIN, f"{text}\n\n{about}")


if __name__ == "__main__":
    main()
