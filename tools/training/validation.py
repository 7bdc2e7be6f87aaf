"""Validation while a run trains: a task of `gdt evaluate` on clips that it does not train on.

    every so many epochs ─► embed the clips ─► kNN or retrieval ─► RUN/logs/validation.csv, loggers
    ─► best.ckpt where the watched score is the highest yet; an early end where it no longer rises

The watched score is the mean over directions of the mean reciprocal rank (retrieval; finer than R@1
on few clips), or the mean over modalities of the accuracy (kNN). The first rank validates while the
others wait; nothing that training computes depends on it.
"""

import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from shards import Samples, open_samples
from tools.evaluation.embeddings import EmbedOptions, embed_clips
from tools.evaluation.encoders import Encoder
from tools.evaluation.labels import labels_of
from tools.evaluation.protocol import Protocol
from tools.evaluation.result import Score
from tools.evaluation.runner import Task, evenly
from tools.evaluation.split import Split
from tools.evaluation.tasks.knn import Knn
from tools.evaluation.tasks.retrieval import Retrieval
from tools.runs.config import Config
from tools.runs.run import Run, build_device_transform, say_on_stderr
from tools.runs.run_folder import RunFolder
from tools.runs.validation_scores import (
    WATCHED,
    ValidationScore,
    best_score,
    read_scores,
    write_scores,
)
from tools.training.stopping import StopRequest

_LONGEST_WAIT = timedelta(days=1)  # of the other ranks for a validation


class Validate(Callback):
    """Scores the model in training.

    Args:
        config: of the run; its `[validation]` names the clips.
        folder: of the run.
        stop: is told where the score no longer rises.
        steps_per_epoch, num_steps: of the run.

    Attributes:
        is_best: the step just taken has the highest watched score yet.
        has_scored: a validation followed the step just taken.

    Raises:
        ShardError: there is no such data set.
        EvaluationError: kNN, and a clip has no label.
    """

    def __init__(
        self,
        config: Config,
        folder: RunFolder,
        stop: StopRequest,
        steps_per_epoch: int,
        num_steps: int,
    ) -> None:
        self.config, self.folder, self.stop = config, folder, stop
        self.options = config.validation
        self.steps_per_epoch, self.num_steps = steps_per_epoch, num_steps
        self.is_best = self.has_scored = False
        self._epochs_done = 0
        self._waiting: Any = None
        assert self.options.shards is not None
        places = {"test": self.options.shards}
        if self.options.task == "knn":
            places["train"] = self.options.train or self.options.shards
        self.datasets = {role: open_samples(at, config.data.remote) for role, at in places.items()}
        self.labels = {
            role: labels_of(dataset) if self.options.task == "knn" else None
            for role, dataset in self.datasets.items()
        }

    @property
    def task(self) -> Task:
        """What is scored, and how."""
        if self.options.task == "knn":
            return Knn((self.options.k,))
        return Retrieval(
            Protocol(
                name="validation",
                source="gdt pretrain",
                levels=("instance",),
                layer="embeddings",
                segments=self.options.segments,
                metrics=("R@1", "R@5", "MRR", "median rank"),
            )
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what a killed attempt scored after the checkpoint from which this one starts."""
        self._epochs_done = self._epochs(trainer)
        if dist.is_available() and dist.is_initialized():
            self._waiting = dist.new_group(backend="gloo", timeout=_LONGEST_WAIT)
        if trainer.is_global_zero:
            kept = [s for s in read_scores(self.folder.validation) if s.step <= trainer.global_step]
            write_scores(self.folder.validation, kept)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate at the end of an epoch, where it is time, and at the end of the run."""
        self.is_best = self.has_scored = False
        epochs = self._epochs(trainer)
        ended = epochs > self._epochs_done and epochs % self.options.every_epochs == 0
        self._epochs_done = epochs
        if not ended and trainer.global_step < self.num_steps:
            return
        self.has_scored = True
        if trainer.is_global_zero:
            self._validate(trainer, pl_module, epochs)
        if self._waiting is not None:
            found = [self.is_best]
            dist.broadcast_object_list(found, src=0, group=self._waiting)
            self.is_best = found[0]

    def _epochs(self, trainer: Trainer) -> int:
        next_step: int = cast(Any, trainer.train_dataloader).next_step
        return next_step // self.steps_per_epoch

    def _validate(self, trainer: Trainer, pl_module: LightningModule, epochs: int) -> None:
        scores = self.scores(pl_module, trainer.global_step)
        path, step = self.folder.validation, trainer.global_step
        before = best_score(read_scores(path))
        watched = watched_score(scores, self.options.task)
        rows = [ValidationScore(step, epochs, s.of, s.metric, s.value) for s in scores]
        rows.append(ValidationScore(step, epochs, self.options.task, WATCHED, watched))
        write_scores(path, [*read_scores(path), *rows])
        metrics = {f"validation/{row.of} {row.metric}": row.value for row in rows}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step - 1)
        self.is_best = before is None or watched > before.value
        best = ""
        if before is not None and not self.is_best:
            best = f" (best {before.value:.3f} after step {before.step})"
        name = "mean reciprocal rank" if self.options.task == "retrieval" else "accuracy"
        say_on_stderr(f"validation after step {step}: {name} {watched:.3f}{best}")
        self._end_early(best_score(read_scores(path)))

    def _end_early(self, best: ValidationScore | None) -> None:
        patience = self.options.patience
        if patience is None or best is None:
            return
        steps = {s.step for s in read_scores(self.folder.validation) if s.step > best.step}
        if len(steps) >= patience:
            self.stop.early = (
                f"no better validation score for {patience} validations: the best, "
                f"{best.value:.3f}, was after step {best.step}"
            )

    def scores(self, pl_module: LightningModule, step: int) -> list[Score]:
        """The scores of a method in training, which is left in training mode."""
        method, setting = cast(Any, pl_module).method, cast(Any, pl_module).setting
        plan, options = setting.plan, self.options
        transform = build_device_transform(self.config, training=False)
        run = Run(self.folder.path, self.config, setting, method, transform, step, trained_on="")
        encoder = Encoder("trained", method, f"step {step}", step)
        task = self.task
        embed = EmbedOptions(
            evenly(options.segments), threads=self.config.data.threads, device=pl_module.device
        )
        stores: dict[str, Any] = {}
        try:
            with tempfile.TemporaryDirectory(prefix="gdt-validation-") as root:
                for name, dataset in _different(self.datasets).items():
                    stores[name] = embed_clips(
                        run, dataset, plan.modalities, [encoder], task.layer, embed, root=Path(root)
                    )["trained"]
                splits = {
                    role: Split(dataset, stores[dataset.fingerprint], self.labels[role])
                    for role, dataset in self.datasets.items()
                }
                task.check(splits)
                return task.score("trained", splits)
        finally:
            method.train()


def watched_score(scores: list[Score], task: str) -> float:
    """The mean of the scores that decide."""
    wanted = [s.value for s in scores if task == "knn" or s.metric == "MRR"]
    return sum(wanted) / len(wanted)


def _different(datasets: dict[str, Samples]) -> dict[str, Samples]:
    return {dataset.fingerprint: dataset for dataset in datasets.values()}
