"""kNN accuracy of a run's features beside the same encoder before its first step, and chance.

    clips of both data sets ─► evenly spaced segments ─► encoder, without its head ─► mean over a
    clip ─► the training clips vote (tools/evaluation/neighbors.py) ─► accuracy

Every modality of the run's plan is evaluated on its own.

OUT/metrics.json          what is printed
OUT/skipped-train.jsonl   clips that could not be decoded, if there were any
OUT/skipped-test.jsonl
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models import build_method
from pipelines.skips import SkipLog
from shards import Samples, open_samples
from shards.plural import plural
from tools.display.progress_bar import progress_bar
from tools.evaluation.embeddings import embed_clips
from tools.evaluation.neighbors import LabelledFeatures, accuracies, chance
from tools.runs.run import Run, choose_device, load_run


class KnnError(Exception):
    """Labels that are missing or do not fit; the message says what to do."""


@dataclass(frozen=True)
class KnnResult:
    """Accuracies, as shares of the test clips.

    Attributes:
        accuracies: (modality, "trained" or "untrained") → k → accuracy.
        chance: of always answering the most frequent label of the training clips.
        num_train, num_test, num_labels: clips that voted, clips asked for, different labels.
        num_skipped: clips of both that could not be decoded, and are not among those.
        segments_per_clip: segments averaged.
        step: optimizer steps behind the trained weights.
        out: the folder of the results.
    """

    accuracies: Mapping[tuple[str, str], Mapping[int, float]]
    chance: float
    num_train: int
    num_test: int
    num_labels: int
    num_skipped: int
    segments_per_clip: int
    step: int
    out: Path


def evaluate_knn(
    run_path: Path,
    train: str | Path,
    test: str | Path,
    out: Path,
    *,
    ks: Sequence[int] = (1, 5, 20),
    segments_per_clip: int = 4,
    batch_size: int = 32,
    threads: int = 2,
    device: str = "auto",
) -> KnnResult:
    """Classify the test clips by the votes of the training clips, with both encoders, into `out`.

    Raises:
        KnnError: a clip without a label, or a test label that no training clip has.
        RunError: no run, or one without a checkpoint.
        ShardError: no data set.
        TooManySkipsError: too many clips cannot be decoded.
    """
    on, trained = choose_device(device), load_run(run_path)
    torch.manual_seed(trained.config.seed)  # as the run began
    untrained = replace(trained, method=build_method(trained.config.model, trained.plan))
    voting_set, asking_set = (
        open_samples(given, trained.config.data.remote) for given in (train, test)
    )
    voting_labels, asking_labels = labels_of(voting_set), labels_of(asking_set)
    unknown = sorted(set(asking_labels) - set(voting_labels))
    if unknown:
        raise KnnError(
            f"{test} has labels that {train} has not: {', '.join(unknown[:5])}; "
            f"there are {', '.join(sorted(set(voting_labels))[:20])}"
        )

    num_clips, done_before = 2 * (len(voting_set) + len(asking_set)), 0

    def features(
        run: Run, dataset: Samples, labels: Sequence[str], skip_log: SkipLog
    ) -> dict[str, LabelledFeatures]:
        nonlocal done_before
        clips = embed_clips(
            run,
            dataset,
            segments_per_clip=segments_per_clip,
            batch_size=batch_size,
            threads=threads,
            device=on,
            layer="features",
            skip_log=skip_log,
            report=lambda done, _: progress(done_before + done, num_clips),
        )
        done_before += len(dataset)
        names = tuple(labels[number] for number in clips.samples.tolist())
        return {
            modality: LabelledFeatures(torch.from_numpy(rows), names)
            for modality, rows in clips.modalities.items()
        }

    out.mkdir(parents=True, exist_ok=True)
    skipped = {side: out / f"skipped-{side}.jsonl" for side in ("train", "test")}
    for path in skipped.values():
        path.unlink(missing_ok=True)
    found = {}
    with progress_bar("encoding clips") as progress:
        for name, run in (("trained", trained), ("untrained", untrained)):
            # clips are decoded for each encoder: what is skipped is written down once
            paths = skipped if name == "trained" else dict.fromkeys(skipped)
            voting = features(run, voting_set, voting_labels, SkipLog(paths["train"]))
            asking = features(run, asking_set, asking_labels, SkipLog(paths["test"]))
            for modality in voting:
                found[modality, name] = accuracies(voting[modality], asking[modality], ks)
    num_train, num_test = (len(next(iter(side.values())).labels) for side in (voting, asking))
    result = KnnResult(
        accuracies=dict(sorted(found.items())),
        chance=chance(voting_labels, asking_labels),
        num_train=num_train,
        num_test=num_test,
        num_labels=len(set(voting_labels)),
        num_skipped=len(voting_set) + len(asking_set) - num_train - num_test,
        segments_per_clip=segments_per_clip,
        step=trained.step,
        out=out,
    )
    facts = {"run": str(run_path), "train": str(train), "test": str(test)}
    _write_metrics(result, facts)
    return result


def _write_metrics(result: KnnResult, facts: Mapping[str, str]) -> None:
    content = {
        **facts,
        "step": result.step,
        "train_clips": result.num_train,
        "test_clips": result.num_test,
        "labels": result.num_labels,
        "skipped": result.num_skipped,
        "segments_per_clip": result.segments_per_clip,
        "chance": result.chance,
        "accuracies": [
            {"modality": modality, "encoder": name, "k": k, "accuracy": accuracy}
            for (modality, name), by_k in result.accuracies.items()
            for k, accuracy in by_k.items()
        ],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (result.out / "metrics.json").write_text(text + "\n", encoding="utf-8")


def labels_of(dataset: Samples) -> list[str]:
    """Return the label of every sample, from its metadata.

    Raises:
        KnnError: a sample has none.
    """
    labels = []
    for number in range(len(dataset)):
        label = dataset.metadata(number).get("label")
        if label is None:
            raise KnnError(
                f"sample {dataset.sample(number).key!r} of {dataset.path} has no label: build the "
                "shards with `gdt shards build … --labels FILE.csv` (columns file,label), or lay "
                "images in subfolders named like their labels"
            )
        labels.append(str(label))
    return labels


def print_report(result: KnnResult) -> None:
    """Print the table beside the untrained encoder and chance."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title="kNN accuracy of frozen features", title_justify="left")
    table.add_column("")
    ks = list(next(iter(result.accuracies.values())))
    for k in ks:
        table.add_column(f"k = {k}", justify="right")
    for (modality, name), by_k in result.accuracies.items():
        steps = (
            f"after {plural(result.step, 'step')}" if name == "trained" else "before the first step"
        )
        table.add_row(f"{modality}, {steps}", *(f"{100 * by_k[k]:.1f} %" for k in ks))
    table.add_row("chance", *(f"{100 * result.chance:.1f} %" for _ in ks), style="dim")
    skipped = ""
    if result.num_skipped:
        skipped = f"; {result.num_skipped} more were skipped (skipped-*.jsonl)"
    console = Console()
    console.print(table)
    lines = (
        f"{plural(result.num_test, 'clip')} by the votes of {result.num_train}, "
        f"{plural(result.num_labels, 'label')}, "
        f"{plural(result.segments_per_clip, 'segment')} a clip{skipped}",
        f"metrics     {result.out / 'metrics.json'}",
    )
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
