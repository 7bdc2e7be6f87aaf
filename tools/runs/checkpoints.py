"""Checkpoints that survive a kill at any moment: written aside, flushed to disk, then renamed.

A run keeps one, RUN/checkpoints/last.ckpt: weights and statistics, the optimizer, its schedule,
the method's buffers (a queue, a momentum encoder) and the position in the stream.
"""

import math
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from tools.runs.losses import LossFile
from tools.runs.run_folder import RunError, RunFolder

TRAINED_ON = "trained_on"  # the data set's fingerprint, beside Lightning's own keys


class AtomicCheckpointIO(CheckpointIO):
    """Writes and reads a checkpoint on a file system of this machine."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint; whatever happens, `path` holds a whole one, new or previous."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the rename itself
        finally:
            os.close(folder)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values are ever unpickled."""
        return load_checkpoint(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's dictionary, without running anything that the file may bring along.

    Raises:
        RunError: the file is damaged, or holds anything but tensors and plain values.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(
            f"{path} cannot be read as a checkpoint ({cause}). Is it cut short, or another "
            "program's? Bring it back from a copy, or train again in another folder"
        ) from error
    return checkpoint


class SaveCheckpoints(Callback):
    """Saves `last.ckpt` every so many steps, and after the last one."""

    def __init__(
        self, folder: RunFolder, losses: LossFile, every_steps: int, num_steps: int
    ) -> None:
        self.folder = folder
        self.losses = losses
        self.every_steps = every_steps
        self.num_steps = num_steps
        self._unsaved: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time; the losses of the steps it stands for reach the disk first."""
        step = trainer.global_step
        self._unsaved = outputs["loss"].detach()
        if step % self.every_steps == 0 or step == self.num_steps:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step of a run that has fewer, as every sample of some steps was skipped."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if self._unsaved is None:
            return
        loss = trainer.strategy.reduce(self._unsaved, reduce_op="mean")
        self._unsaved = None
        if not math.isfinite(float(loss)):
            return  # weights of a run that diverged must not replace the last good ones
        if trainer.is_global_zero:
            self.losses.flush_to_disk()
        trainer.save_checkpoint(self.folder.checkpoint)
