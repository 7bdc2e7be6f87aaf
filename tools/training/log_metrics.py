"""What a run writes down of its steps: the losses' file, Lightning's loggers, the progress bar.

| logged | is |
|---|---|
| `loss` | of the batch before its update, the mean over ranks |
| `learning_rate`, `gradient_norm` | of the step; the norm before clipping |
| `samples_per_second`, `share_waiting` | since the last logged step; on a CPU with augmenting |
| `alignment`, `uniformity` | of the step's embeddings, see `alignment_and_uniformity` |
"""

import importlib
import math
import os
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import (
    CSVLogger,
    Logger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from torch import Tensor, nn

from gdt import Plan
from tools.runs.losses import LossFile, LossRow
from tools.runs.options import LoggerName
from tools.runs.run import say_on_stderr
from tools.runs.run_folder import RunFolder
from tools.training.finite import StopWhereNotFinite
from tools.training.progress import TrainingProgress

_MOST_ROWS = 1024  # of a rank's embeddings, for alignment and uniformity


class LogMetrics(Callback):
    """Writes down the steps that `every_steps` divides, and the last one.

    Args:
        file: of the losses.
        every_steps: as often as asked.
        num_steps: of the whole run.
        samples_per_step: global batch size.
        plan: says which embeddings are positives.
        progress: shows the loss.
        finite: knows the gradient's norm.
    """

    def __init__(
        self,
        file: LossFile,
        *,
        every_steps: int,
        num_steps: int,
        samples_per_step: int,
        plan: Plan,
        progress: TrainingProgress,
        finite: StopWhereNotFinite,
    ) -> None:
        self.file, self.every_steps, self.num_steps = file, every_steps, num_steps
        self.samples_per_step, self.plan = samples_per_step, plan
        self.progress, self.finite = progress, finite
        self._embedded: tuple[Tensor, Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Drop what a killed attempt logged after the checkpoint from which this one starts."""
        if trainer.is_global_zero:
            for damaged in self.file.cut(trainer.global_step):
                say_on_stderr(f"{self.file.path}: {damaged} is not a row of losses: left out")
        towers = getattr(pl_module.method, "towers", None)
        if isinstance(towers, nn.Module):
            towers.register_forward_hook(self._keep)
        self._mark(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the learning rate that this step takes: the schedule moves on before its end."""
        self._embedded = None
        self.learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write down the step, where it is one of those."""
        step = trainer.global_step - 1
        if step % self.every_steps and trainer.global_step < self.num_steps:
            return
        reduce = partial(trainer.strategy.reduce, reduce_op="mean")
        loss = float(reduce(outputs["loss"].detach()))
        parts = {f"loss/{name}": float(reduce(part)) for name, part in outputs["parts"].items()}
        self.progress.loss, self.progress.epoch = loss, batch.epoch
        if not trainer.is_global_zero:
            return
        self.file.append(LossRow(step, batch.epoch, loss, self.learning_rate))
        metrics = {
            "loss": loss,
            "learning_rate": self.learning_rate,
            "epoch": batch.epoch,
            "gradient_norm": self.finite.gradient_norm,
            **parts,
            **self._speed(trainer),
        }
        if self._embedded is not None:
            alignment, uniformity = alignment_and_uniformity(self.plan, *self._embedded)
            found = {"alignment": alignment, "uniformity": uniformity}
            metrics |= {name: value for name, value in found.items() if math.isfinite(value)}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step)

    def _keep(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if self._embedded is None and isinstance(output, tuple) and len(output) == 2:
            embeddings, codes = output
            self._embedded = embeddings.detach(), codes

    def _mark(self, trainer: Trainer) -> None:
        waited = cast(Any, trainer.train_dataloader).overlap.waited_seconds
        self._since = time.monotonic(), trainer.global_step, waited

    def _speed(self, trainer: Trainer) -> dict[str, float]:
        began, step, waited = self._since
        self._mark(trainer)
        passed = max(self._since[0] - began, 1e-9)
        return {
            "samples_per_second": self.samples_per_step * (self._since[1] - step) / passed,
            "share_waiting": min(1.0, (self._since[2] - waited) / passed),
        }


def alignment_and_uniformity(plan: Plan, embeddings: Tensor, codes: Tensor) -> tuple[float, float]:
    """How near positives are, and how evenly all embeddings fill the sphere; lower is better.

    Wang & Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere", ICML 2020, §4.1: the mean of ‖f(x) − f(y)‖² over positive pairs,
    and log of the mean of exp(−2 ‖f(x) − f(y)‖²) over all pairs.

    Args:
        plan: positives are where its c · w is above 0.
        embeddings: float [N, D]; scaled to length 1 here.
        codes: int64 [N, M].

    Returns:
        Both; NaN where there is no such pair.
    """
    rows = nn.functional.normalize(embeddings[:_MOST_ROWS].float(), dim=1)  # N × D
    codes = codes[:_MOST_ROWS]
    squares = (2 - 2 * rows @ rows.T).clamp_min(0)  # N × N
    positive = plan.contrast(codes, codes) * plan.weight(codes, codes) > 0  # N × N
    other = ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    alignment = squares[positive].mean()
    uniformity = (-2 * squares[other]).exp().mean().log()
    return float(alignment), float(uniformity)


def build_loggers(names: tuple[LoggerName, ...], folder: RunFolder) -> list[Logger]:
    """Lightning's loggers by name; all of them but a server's write below RUN/logs.

    Raises:
        ImportError: a logger's library is missing.
    """
    logs = folder.path / "logs"
    return [_build_logger(name, folder, logs) for name in names]


def _build_logger(name: LoggerName, folder: RunFolder, logs: Path) -> Logger:
    if name == "tensorboard":
        return TensorBoardLogger(logs, name="", version="tensorboard")
    if name == "csv":
        return CSVLogger(logs, name="csv")  # version_0, version_1, …: one for each attempt
    _needed(name)
    if name == "wandb":
        logs.mkdir(parents=True, exist_ok=True)
        run_id = _kept_id(logs / "wandb-run-id")  # a resumed run goes on in the same one
        return WandbLogger(
            project="gdt", name=folder.path.name, save_dir=logs, id=run_id, resume="allow"
        )
    tracking = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{logs.resolve() / 'mlflow.db'}")
    return MLFlowLogger("gdt", run_name=folder.path.name, tracking_uri=tracking)


def _kept_id(path: Path) -> str:
    if not path.exists():
        path.write_text(uuid.uuid4().hex[:12], encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


def _needed(name: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'trainer.loggers has "{name}": its library is missing; pip install '
            f"'gdt-stream[{name}]', or leave it out"
        ) from error
