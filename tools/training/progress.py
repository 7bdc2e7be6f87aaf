"""Training progress: a live bar on a terminal, now and then a line in a file or a pipe."""

import time
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shards.plural import plural
from tools.terminal import Terminal

_SECONDS_BETWEEN_LINES = 10.0


class TrainingProgress(Callback):
    """Shows step, epoch, the loss, samples a second, and the share of the time for getting batches.

    On a GPU that is waiting for them; on a CPU it has augmenting them in it.

    Args:
        samples_per_step: global batch size.
        epochs: of the whole run.
        num_steps: of the whole run.
    """

    def __init__(self, samples_per_step: int, epochs: int, num_steps: int) -> None:
        self.samples_per_step = samples_per_step
        self.epochs = epochs
        self.num_steps = num_steps
        self.loss = float("nan")
        self.epoch = 0
        self._console = Terminal()
        self._bar = Progress(
            TextColumn("pretrain"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; a resumed run's rate counts its own steps only. One rank shows it."""
        self._is_shown = trainer.is_global_zero
        if not self._is_shown:
            return
        num_weights = sum(
            weight.numel() for weight in pl_module.parameters() if weight.requires_grad
        )
        device = pl_module.device.type
        self._console.say(
            f"{plural(self.num_steps, 'step')} of {plural(self.samples_per_step, 'sample')}, "
            f"{plural(self.epochs, 'epoch')} · "
            f"{num_weights / 1e6:.1f} M weights · {trainer.world_size} × {device}, "
            f"{trainer.precision}"
        )
        stream = cast(Any, trainer.train_dataloader).stream
        size = "" if stream.frame_size is None else ", {}×{} pixels".format(*stream.frame_size)
        self._console.say(f"{plural(len(stream.dataset), 'sample')} of {stream.dataset.path}{size}")
        name, reason = stream.decoder
        self._console.say(f"decoder {name}: {reason}")
        if stream.left_out:
            self._console.say(
                f"not in a last batch, which they would not fill: "
                f"{plural(stream.left_out, 'sample')}, other ones in every epoch"
            )
        if trainer.global_step:
            self._console.say(f"resumed after step {trainer.global_step}")
        self._first_step = trainer.global_step
        self._start = self._last_line = time.monotonic()
        self._bar.start()
        self._task = self._bar.add_task(
            "pretrain", total=self.num_steps, completed=trainer.global_step, status=""
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, or print a line when the last one is some seconds old."""
        if not self._is_shown:
            return
        step, now = trainer.global_step, time.monotonic()
        passed = max(1e-9, now - self._start)
        rate = self.samples_per_step * (step - self._first_step) / passed
        waiting = cast(Any, trainer.train_dataloader).overlap.waited_seconds / passed
        status = (
            f"epoch {self.epoch + 1}/{self.epochs} · loss {self.loss:.4f} · "
            f"{rate:.1f} samples/s · {waiting:.0%} getting batches"
        )
        self._bar.update(self._task, completed=step, status=status)
        is_due = now - self._last_line >= _SECONDS_BETWEEN_LINES or step == self.num_steps
        if not self._console.is_terminal and is_due:
            self._last_line = now
            left = (self.num_steps - step) * self.samples_per_step / rate
            self._console.say(f"step {step}/{self.num_steps} · {status} · {left:.0f} s left")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar, and say what the decoder could not do."""
        self._bar.stop()
        if self._is_shown:
            for cause, number in cast(Any, trainer.train_dataloader).stream.fallbacks.items():
                self._console.say(f"decoded on the CPU: {plural(number, 'sample')}: {cause}")

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the terminal back."""
        self._bar.stop()
