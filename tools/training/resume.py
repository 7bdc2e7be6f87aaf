"""Go on from a checkpoint: which one, at what learning rate, and what Lightning is told of it."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from tools.runs.checkpoints import newest_checkpoint, set_damaged_aside
from tools.runs.run import say_on_stderr
from tools.runs.run_folder import RunFolder

__all__ = ["checkpoint_to_resume", "go_on_in_the_middle", "take_rates"]


def checkpoint_to_resume(folder: RunFolder, trainer: Trainer) -> Path | None:
    """The newest checkpoint that is whole, if there is one; the first rank says what is not."""
    is_first = trainer.is_global_zero
    path = newest_checkpoint(folder, say_on_stderr if is_first else lambda line: None)
    if is_first and path is not None:
        set_damaged_aside(folder, path)
    return path


def go_on_in_the_middle(checkpoint: dict[str, Any]) -> None:
    """Let Lightning take a checkpoint as one from the middle of its epoch.

    It is, since to Lightning a whole run is one epoch; also that of a run that had ended.
    """
    loops = checkpoint["loops"]["fit_loop"]
    for name, counts in (
        ("epoch_progress", {"ready": 1, "started": 1, "processed": 0, "completed": 0}),
        ("epoch_loop.batch_progress", {}),
    ):
        for progress in (loops[name]["total"], loops[name]["current"]):
            progress.update(counts or {"completed": progress["processed"] - 1})
    loops["epoch_loop.batch_progress"]["is_last_batch"] = False


def take_rates(optimizer: Optimizer, schedule: LambdaLR) -> tuple[float, float]:
    """Set the learning rates of the schedule's step, whatever those of a checkpoint were.

    Returns:
        Of the first group: the rate that it had, and has now.
    """
    old = optimizer.param_groups[0]["lr"]
    groups = zip(optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
    for group, base, factor in groups:
        group["lr"] = base * factor(schedule.last_epoch)
    return old, optimizer.param_groups[0]["lr"]
