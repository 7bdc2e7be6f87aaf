"""When a run saves: every so many steps, at its end or a stop, where a score is the best yet."""

import os
import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from tools.runs.losses import LossFile
from tools.runs.options import TrainerOptions
from tools.runs.run_folder import RunFolder
from tools.training.validation import Validate


class SaveCheckpoints(Callback):
    """Saves `last.ckpt`, and keeps what is to be kept under a second name.

    Args:
        folder: of the run.
        losses: whose rows reach the disk before the checkpoint that they lead to.
        options: how often.
        num_steps: of the whole run.
        validate: tells the best.
    """

    def __init__(
        self,
        folder: RunFolder,
        losses: LossFile,
        options: TrainerOptions,
        num_steps: int,
        validate: Validate | None,
    ) -> None:
        self.folder, self.losses, self.options = folder, losses, options
        self.num_steps, self.validate = num_steps, validate
        self._is_unsaved = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is time."""
        step, kept = trainer.global_step, self.options.keep_every_steps
        self._is_unsaved = True
        is_kept = kept is not None and step % kept == 0
        is_best = self.validate is not None and self.validate.is_best
        is_due = step % self.options.checkpoint_every_steps == 0 or step == self.num_steps
        if is_due or is_kept or is_best:
            self._save(trainer)
        if trainer.is_global_zero:
            if is_best:
                also_as(self.folder.checkpoint, self.folder.best_checkpoint)
            if is_kept:
                also_as(self.folder.checkpoint, self.folder.kept_checkpoint(step))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step of a run that was told to stop, or had steps that were passed over."""
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if not self._is_unsaved:
            return
        self._is_unsaved = False
        if trainer.is_global_zero:
            self.losses.flush_to_disk()
        trainer.save_checkpoint(self.folder.checkpoint)


def also_as(file: Path, name: Path) -> None:
    """Give a file a second name, in the place of what has it: a link, or a copy where none can be.

    A checkpoint is replaced and never written into, so a link stays what it is.
    """
    partial = name.with_name(name.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(file, partial)
    except OSError:
        shutil.copyfile(file, partial)
    partial.replace(name)
