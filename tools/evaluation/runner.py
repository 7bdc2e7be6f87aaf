"""The runner of all tasks: load a run, embed each data set once, score, write one metrics.json.

    run ─► encoders (trained, untrained) ─► clip stores of each data set ─► task ─► Evaluation

OUT/metrics.json            what is printed, see result.py
OUT/skipped-{role}.jsonl    clips that could not be decoded, if there were any

OUT is RUN/evaluation/{task}/{data set}-{identity} unless it is given: results of several data sets,
checkpoints and settings lie side by side.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from shards import Samples, open_samples
from tools.display.progress_bar import progress_bar
from tools.evaluation.clip_store import ClipStore
from tools.evaluation.embeddings import EmbedOptions, embed_clips
from tools.evaluation.encoders import (
    Encoder,
    Layer,
    check_modalities,
    trained_encoder,
    untrained_encoder,
)
from tools.evaluation.errors import EvaluationError
from tools.evaluation.labels import labels_if_any, labels_of
from tools.evaluation.result import Evaluation, Score, SplitFacts, check_out
from tools.evaluation.split import Split
from tools.runs.run import Run, choose_device, load_run

TRAINED_ON_THESE = (
    "The run was trained on these very clips: the numbers say what it remembers, not what it can "
    "find. Evaluate on clips that were held out."
)


class Task(Protocol):
    """One way to score an encoder; each is a file of tools/evaluation/tasks/."""

    @property
    def name(self) -> str:
        """As in `gdt evaluate NAME`."""

    @property
    def title(self) -> str:
        """What stands over its table."""

    @property
    def interval(self) -> str:
        """What its intervals are over."""

    @property
    def needs_labels(self) -> bool:
        """Whether every clip must have a label."""

    @property
    def layer(self) -> Layer:
        """What of the encoder is scored."""

    def settings(self) -> dict[str, Any]:
        """What its numbers depend on, besides the embeddings."""

    def check(self, splits: Mapping[str, Split]) -> list[str]:
        """Refuse what cannot be scored; returns notes for the reader.

        Raises:
            EvaluationError: these data sets cannot be scored so.
        """

    def score(self, encoder: str, splits: Mapping[str, Split]) -> list[Score]:
        """The scores of one encoder."""

    def chance(self, splits: Mapping[str, Split]) -> list[Score]:
        """What knowing nothing scores."""

    def left_out(self, splits: Mapping[str, Split]) -> list[dict[str, str]]:
        """What of the task cannot be scored on these data sets, and why."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to evaluate.

    Attributes:
        run: run folder.
        data: role → data set: "test", and "train" where the task takes one.
        modalities: those to score; all of the run's plan where empty.
        places, crops, seconds: where in a clip its segments start, how many crops of each are
            taken, and how long they are; see `EmbedOptions`.
        untrained: also score the encoder as it was before its first step.
        checkpoint: of the run, see `load_run`.
        out: folder of the results; see the module.
        batch_size, threads, device: see `EmbedOptions`.
    """

    run: Path
    data: Mapping[str, str | Path]
    modalities: tuple[str, ...] = ()
    places: tuple[float, ...]
    crops: int = 1
    seconds: float | None = None
    untrained: bool = True
    checkpoint: str = "last"
    out: Path | None = None
    batch_size: int = 16
    threads: int = 2
    device: str = "auto"


@dataclass(frozen=True)
class Outcome:
    """An evaluation, its folder, and what it was made from."""

    result: Evaluation
    out: Path
    run: Run
    splits: Mapping[str, Mapping[str, Split]]  # encoder → role → split


def evenly(segments: int) -> tuple[float, ...]:
    """The places of evenly spaced segments: the middles of equal parts, (s + ½) / n."""
    return tuple(((np.arange(segments) + 0.5) / segments).tolist())


def end_to_end(segments: int) -> tuple[float, ...]:
    """The same from the first start that a clip allows to the last; one segment is the middle."""
    return tuple(np.linspace(0, 1, segments).tolist()) if segments > 1 else (0.5,)


def evaluate(task: Task, request: Request, run: Run | None = None) -> Outcome:
    """Score a run by a task, and write what was found.

    Args:
        task: what is scored.
        request: of what.
        run: that of the request, where it is loaded already.

    Raises:
        EvaluationError: the run, the data sets and the task do not go together.
        RunError: no run, or one without a checkpoint.
        ShardError: no data set.
        TooManySkipsError: too many clips cannot be decoded.
    """
    device = choose_device(request.device)
    run = run or load_run(request.run, checkpoint=request.checkpoint)
    modalities = check_modalities(run, request.modalities)
    datasets = {role: open_samples(at, run.config.data.remote) for role, at in request.data.items()}
    labels = {
        dataset.fingerprint: _labels(dataset, needed=task.needs_labels)
        for dataset in datasets.values()
    }
    encoders = [trained_encoder(run), *([untrained_encoder(run)] if request.untrained else [])]
    options = EmbedOptions(
        places=request.places,
        crops=request.crops,
        seconds=request.seconds,
        batch_size=request.batch_size,
        threads=request.threads,
        device=device,
    )
    splits = _embed(run, datasets, labels, modalities, encoders, task.layer, options)
    trained = splits["trained"]
    notes = task.check(trained)
    if any(_was_trained_on(run, dataset) for role, dataset in datasets.items() if role == "test"):
        notes.append(TRAINED_ON_THESE)
    scores = [score for name, of in splits.items() for score in task.score(name, of)]
    result = Evaluation(
        task=task.name,
        run={
            "path": str(request.run),
            "step": run.step,
            "weights": encoders[0].weights,
            "plan": run.plan.fingerprint(),
            **({"begun_from": begun_from} if (begun_from := run.config.trainer.init_from) else {}),
        },
        data={role: _facts(split) for role, split in trained.items()},
        settings={
            "layer": task.layer,
            "modalities": list(modalities),
            "places": list(request.places),
            **({"crops": request.crops} if request.crops > 1 else {}),
            **({} if request.seconds is None else {"seconds": request.seconds}),
            **task.settings(),
        },
        interval=task.interval,
        scores=[*scores, *task.chance(trained)],
        left_out=task.left_out(trained),
        notes=notes,
    )
    out = request.out or run.path / "evaluation" / task.name / _folder_name(result)
    check_out(out, result.identity)
    out.mkdir(parents=True, exist_ok=True)
    for role, split in trained.items():
        _write_skips(out / f"skipped-{role}.jsonl", split.store)
    result.write(out)
    return Outcome(result, out, run, splits)


def _embed(
    run: Run,
    datasets: Mapping[str, Samples],
    labels: Mapping[str, tuple[str, ...] | None],
    modalities: tuple[str, ...],
    encoders: list[Encoder],
    layer: Layer,
    options: EmbedOptions,
) -> dict[str, dict[str, Split]]:
    """Encoder → role → split; a data set in two roles is embedded once."""
    splits: dict[str, dict[str, Split]] = {encoder.name: {} for encoder in encoders}
    done: dict[str, dict[str, ClipStore]] = {}
    for role, dataset in datasets.items():
        if dataset.fingerprint not in done:
            with progress_bar(f"embedding clips ({role})") as progress:
                done[dataset.fingerprint] = embed_clips(
                    run, dataset, modalities, encoders, layer, options, report=progress
                )
        for name, store in done[dataset.fingerprint].items():
            splits[name][role] = Split(dataset, store, labels[dataset.fingerprint])
    return splits


def _labels(dataset: Samples, *, needed: bool) -> tuple[str, ...] | None:
    """All labels, or None where a clip has none and none is needed; nothing is decoded yet."""
    if needed:
        return labels_of(dataset)
    found = labels_if_any(dataset)
    return None if isinstance(found, int) else found


def _was_trained_on(run: Run, dataset: Samples) -> bool:
    return bool(dataset.fingerprint) and dataset.fingerprint in run.trained_on


def _facts(split: Split) -> SplitFacts:
    store = split.store
    path, fingerprint = str(split.dataset.path), split.dataset.fingerprint
    return SplitFacts(path, fingerprint, len(store.clips), store.skip_causes())


def _folder_name(result: Evaluation) -> str:
    path = result.data["test"].path.rstrip("/")
    name = re.sub(r"[^A-Za-z0-9]+", "-", path.rsplit("/", 1)[-1]).strip("-")[:40] or "clips"
    return f"{name}-{result.identity}"


def _write_skips(path: Path, store: ClipStore) -> None:
    path.unlink(missing_ok=True)
    if store.skips:
        lines = (json.dumps(store.skips[n], ensure_ascii=False) for n in sorted(store.skips))
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def roles_of(
    train: str | None, test: str | None, shards: str | None, *, needs_train: bool
) -> dict[str, str]:
    """The data sets that a command line names.

    Raises:
        EvaluationError: too few or too many are named.
    """
    if shards and (train or test):
        raise EvaluationError("--shards names one data set, --train and --test two: give either")
    if shards:
        test = shards
    if not test:
        raise EvaluationError(
            "no data set to score: give --test B (and --train A where clips are learned from)"
            if needs_train
            else "no data set to score: give --shards S, or --train A --test B"
        )
    if needs_train and not train:
        raise EvaluationError("no data set to learn from: give --train A beside --test B")
    return {"train": train, "test": test} if train else {"test": test}
