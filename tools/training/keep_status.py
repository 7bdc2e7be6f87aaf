"""Writes RUN/status.json while a run goes on."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tools.runs.run_folder import RunFolder
from tools.runs.status import RunStatus, State
from tools.training.stopping import Stopped, StopRequest


class KeepStatus(Callback):
    """Says at the start, at every checkpoint and at the end how the run stands; one rank does.

    Args:
        folder: of the run.
        stop: whether the end is an early one.
        every_steps: as often as checkpoints are made.
        num_steps: of the whole run.
    """

    def __init__(
        self, folder: RunFolder, stop: StopRequest, every_steps: int, num_steps: int
    ) -> None:
        self.folder, self.stop = folder, stop
        self.every_steps, self.num_steps = every_steps, num_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It is running."""
        self._say(trainer, "running")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """It is running, and has come this far."""
        if trainer.global_step % self.every_steps == 0:
            self._say(trainer, "running")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It came to its end, or was told to stop."""
        if self.stop.signum is not None:
            self._say(trainer, "stopped", str(Stopped(self.stop.signum)))
        else:
            self._say(trainer, "finished", self.stop.early)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """It came to grief."""
        state: State = "stopped" if isinstance(exception, Stopped) else "failed"
        text = str(exception) or type(exception).__name__
        self._say(trainer, state, text.splitlines()[0])

    def _say(self, trainer: Trainer, state: State, reason: str = "") -> None:
        if trainer.is_global_zero and self.folder.path.is_dir():
            status = RunStatus(state, trainer.global_step, self.num_steps, reason)
            status.save(self.folder.status)
