"""Lightning's Trainer of a run, and what looks at its steps: losses, scores, checkpoints."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy

from models import RunFacts
from shards import Samples
from tools.runs.config import Config
from tools.runs.losses import LossFile
from tools.runs.options import TrainerOptions
from tools.runs.run_folder import RunFolder
from tools.training.checkpoint_io import AtomicCheckpointIO
from tools.training.finite import StopWhereNotFinite
from tools.training.keep_status import KeepStatus
from tools.training.log_metrics import LogMetrics, build_loggers
from tools.training.progress import TrainingProgress
from tools.training.save_checkpoints import SaveCheckpoints
from tools.training.stopping import StopRequest
from tools.training.validation import Validate

__all__ = ["build_trainer", "run_callbacks"]


def build_trainer(config: Config, folder: RunFolder, callbacks: Sequence[Callback]) -> Trainer:
    """The trainer that a config asks for.

    Raises:
        MisconfigurationException: its strategy does not go with other keys, or with this machine.
    """
    trainer = Trainer(
        accelerator=config.trainer.accelerator,
        devices=_devices(config.trainer),
        num_nodes=config.trainer.num_nodes,
        strategy=config.trainer.strategy,
        precision=config.trainer.precision,
        sync_batchnorm=config.trainer.sync_batch_norm,
        gradient_clip_val=config.trainer.gradient_clip_norm,
        max_epochs=1,
        log_every_n_steps=1,
        logger=build_loggers(config.trainer.loggers, folder),
        callbacks=list(callbacks),
        plugins=[AtomicCheckpointIO()],
        default_root_dir=folder.path,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if isinstance(trainer.strategy, FSDPStrategy) and config.validation.shards is not None:
        raise MisconfigurationException(
            "[validation] with trainer.strategy = fsdp: one rank scores, and has a part of the "
            "weights only. Leave validation.shards out, or use ddp"
        )
    if isinstance(trainer.strategy, FSDPStrategy) and config.trainer.gradient_clip_by != "all":
        raise MisconfigurationException(
            'trainer.gradient_clip_by = "parameter" with strategy = fsdp: a rank has parts of '
            'parameters only, and not their norms. Take "all", or ddp'
        )
    # Lightning's own handler waits for the other ranks from within the signal, which can hang
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    if isinstance(trainer.strategy, DDPStrategy | FSDPStrategy):
        trainer.strategy._timeout = timedelta(seconds=config.trainer.rank_timeout_seconds)
    return trainer


def run_callbacks(
    config: Config, folder: RunFolder, dataset: Samples, facts: RunFacts, stop: StopRequest
) -> list[Callback]:
    """Those of every run, in the order in which they look at a step."""
    options, losses, num_steps = config.trainer, LossFile(folder.losses), facts.num_steps
    plan = config.build_plan()
    progress = TrainingProgress(config.data.batch_size, options.epochs, num_steps)
    finite = StopWhereNotFinite(dataset, plan)
    validate = None
    if config.validation.shards is not None:
        validate = Validate(config, folder, stop, facts.steps_per_epoch, num_steps)
    return [
        _FollowSteps(),
        finite,
        LogMetrics(
            losses,
            every_steps=options.log_every_steps,
            num_steps=num_steps,
            samples_per_step=config.data.batch_size,
            plan=plan,
            progress=progress,
            finite=finite,
        ),
        progress,
        *([] if validate is None else [validate]),
        SaveCheckpoints(folder, losses, options, num_steps, validate),
        KeepStatus(folder, stop, options.checkpoint_every_steps, num_steps),
    ]


class _FollowSteps(Callback):
    """Lets the method follow the optimizer's step, before anything is scored or saved after it.

    Lightning calls the hooks of the module itself after those of all callbacks.
    """

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell it which step was taken."""
        cast(Any, pl_module).method.after_step(trainer.global_step - 1)


def _devices(options: TrainerOptions) -> int | str:
    # "auto" would be every core of a CPU machine in some versions of Lightning, one in others
    on_cpu = options.accelerator == "cpu" or not torch.cuda.is_available()
    return 1 if options.devices == "auto" and on_cpu else options.devices
