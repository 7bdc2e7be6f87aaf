"""The training run: a stream, a device transform and a method, driven by Lightning's Trainer.

    Stream ─► RawBatch ─► DeviceTransform ─► gdt.Batch ─► method ─► loss ─► optimizer
    (threads)             (on the device, beside the step before)  (models)

To Lightning the whole run is one epoch: our epochs are a matter of the stream, every resume is one
from the middle, and there is one kind of it. What a step computes is a function of the
checkpoint and the step's number: the stream's position comes from the checkpoint, and torch's
generator is seeded anew at each step (dropout), so a resumed run repeats the unbroken one.
"""

import errno
import hashlib
import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gdt import Batch
from models import Encoder, Losses, Method, RunFacts, build_method
from pipelines.device.overlap import Overlap
from pipelines.loading.stream import Stream
from pipelines.skips import SkipLog
from shards import Samples
from tools.runs.checkpoints import (
    CLASSES,
    EPOCH_BEGUN,
    RUN_FACTS,
    TRAINED_ON,
)
from tools.runs.config import Config, as_config_errors
from tools.runs.losses import read_loss_file
from tools.runs.run import build_device_transform, say_on_stderr
from tools.runs.run_folder import RunError, RunFolder
from tools.runs.status import read_status
from tools.runs.weights import initialize, read_weights
from tools.training.batch_norm import batch_norm_explained
from tools.training.embed_dataset import WholeDataset
from tools.training.enlarged_crops import enlarged_crops
from tools.training.finite import TrainingError
from tools.training.optimizer import build_optimizer, clip_each, set_weight_decay
from tools.training.overlap_warning import overlap_warning
from tools.training.rank_errors import rank_errors_explained
from tools.training.resume import checkpoint_to_resume, go_on_in_the_middle, take_rates
from tools.training.setting import setting_of
from tools.training.stopping import Stopped, StopRequest
from tools.training.trainer import build_trainer, run_callbacks
from tools.training.whole_run import WholeRun


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of torch's generator at one step of one rank, the same in every attempt."""
    digest = hashlib.sha256(f"{seed}/{step}/{rank}".encode()).digest()
    return int.from_bytes(digest[:8], "little", signed=True)


class Pretraining(LightningModule):
    """Stream, device transform and method as Lightning sees them.

    Args:
        config: the run's.
        dataset: of its shards.
        folder: where skips are written down.
        stop: whether the run is to end early.
    """

    def __init__(
        self, config: Config, dataset: Samples, folder: RunFolder, stop: StopRequest
    ) -> None:
        super().__init__()
        self.config, self.dataset, self.folder, self.stop = config, dataset, folder, stop
        self.plan = config.build_plan()
        self.steps_per_epoch = len(dataset) // config.data.batch_size
        if self.steps_per_epoch == 0:
            raise TrainingError(
                f"{dataset.path} holds {len(dataset)} samples, fewer than one batch of "
                f"{config.data.batch_size}: lower data.batch_size, or build more shards"
            )
        epochs, most = config.trainer.epochs, config.trainer.max_steps
        self.num_steps = min(epochs * self.steps_per_epoch, most or sys.maxsize)
        self.device_transform = build_device_transform(config, training=True)
        self.facts = RunFacts(
            len(dataset), config.data.batch_size, self.steps_per_epoch, self.num_steps
        )
        self.setting = setting_of(config, dataset, self.facts)
        torch.manual_seed(config.seed)  # the initial weights, the same on every rank
        self.method: Method = build_method(config.method, self.setting)
        if config.trainer.accumulate > 1 and not self.method.embeds_in_chunks:
            raise ValueError(
                f"trainer.accumulate = {config.trainer.accumulate}: {config.method.name} takes a "
                "batch as a whole; it is for methods whose loss is of all embeddings together "
                "(gdt, simclr). Lower data.batch_size, or train on more ranks"
            )
        self.method.num_chunks = config.trainer.accumulate
        self._epoch_begun = -1  # the last epoch of which `before_epoch` was called
        for encoder in (m for m in self.method.modules() if isinstance(m, Encoder)):
            encoder.arrange(
                channels_last=config.trainer.channels_last, compiled=config.trainer.compile
            )

    def train_dataloader(self) -> WholeRun:
        """This rank's share of every global batch; autocast begins later, in `training_step`.

        Raises:
            ConfigError: the data set or this machine does not have what the config asks for.
        """
        with as_config_errors():
            stream = Stream(
                self.dataset,
                self.plan,
                self.config.segment,
                self.config.data,
                self.config.seed,
                rank=self.trainer.global_rank,
                num_ranks=self.trainer.world_size,
                skip_log=SkipLog(self.folder.skip_log),
            )
        device = self.trainer.strategy.root_device
        say = say_on_stderr if self.trainer.is_global_zero else lambda line: None
        for warning in (overlap_warning(stream), *enlarged_crops(stream, self.config)):
            if warning is not None:
                say(warning)
        agree = partial(self.stop.agreed, device=device)
        return WholeRun(stream, Overlap(self.device_transform, device), self.num_steps, agree, say)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Let the method begin an epoch, before its first step; resuming does not do it twice."""
        if batch.epoch == self._epoch_begun:
            return
        torch.manual_seed(step_seed(self.config.seed, -1 - batch.epoch, 0))  # alike on every rank
        transforms = {
            True: self.device_transform,
            False: build_device_transform(self.config, training=False),
        }
        whole = WholeDataset(
            self.method,
            self.dataset,
            self.config,
            transforms,
            batch.epoch,
            self.device,
            SkipLog(self.folder.skip_log),
        )
        self.method.before_epoch(batch.epoch, whole)
        self._epoch_begun = batch.epoch

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """The method's losses: `loss` to be minimised, `parts` to be logged."""
        torch.manual_seed(step_seed(self.config.seed, self.global_step, self.global_rank))
        with batch_norm_explained(batch, self.config.data.batch_size, self.trainer.world_size):
            losses: Losses = self.method(batch)
        parts = {name: part.detach() for name, part in losses.parts.items()}
        return {"loss": losses.total, "parts": parts}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Let the method change gradients; take the weight decay of this step."""
        self.method.after_backward(self.global_step)
        set_weight_decay(optimizer, self.config.optimizer, self.global_step, self.num_steps)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip all gradients together, or each parameter's."""
        norm = self.config.trainer.gradient_clip_norm
        if norm is not None and self.config.trainer.gradient_clip_by == "parameter":
            clip_each(self.method.parameters(), norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_start(self) -> None:
        """Begin to let signals wait for a step; take the learning rate that belongs to this one.

        The checkpoint's is that of the run as long as it then was.
        """
        self.stop.in_training = True
        schedule = cast(LambdaLR, self.lr_schedulers())
        old, rate = take_rates(self.trainer.optimizers[0], schedule)
        if rate != old and self.trainer.is_global_zero:
            say_on_stderr(
                f"learning rate {rate:g} in place of {old:g}: that of this step in a run of "
                f"{self.num_steps} steps"
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the epochs were.

        Raises:
            RunError: the checkpoint is of another method or version.
        """
        method = {name for name in checkpoint["state_dict"] if name.startswith("method.")}
        odd = sorted(method ^ {f"method.{name}" for name in self.method.state_dict()})
        if odd:
            raise RunError(
                f"the checkpoint in {self.folder.checkpoint.parent} does not belong to "
                f"{self.folder.config}, or is of another version: {odd[0]} and {len(odd) - 1} more "
                "weights are in one of the two only. Start a new run; --init-from takes what fits"
            )
        self._epoch_begun = checkpoint.get(EPOCH_BEGUN, -1)
        go_on_in_the_middle(checkpoint)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the weights were trained on, and how far the epochs are begun."""
        checkpoint[TRAINED_ON] = self.dataset.fingerprint
        checkpoint[RUN_FACTS] = asdict(self.facts)
        checkpoint[EPOCH_BEGUN] = self._epoch_begun
        if self.setting.labels is not None:
            checkpoint[CLASSES] = dict(self.setting.labels.counts)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and its schedule by steps."""
        optimizer, schedule = build_optimizer(
            self.config.optimizer,
            self.method.parameter_groups(),
            num_ranks=self.trainer.world_size,
            steps_per_epoch=self.steps_per_epoch,
            num_steps=self.num_steps,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def fit(
    config: Config, folder: RunFolder, *, resume: bool, callbacks: Sequence[Callback] = ()
) -> None:
    """Train until the end of the run; with `resume` from its checkpoint, where there is one yet.

    Every rank calls this; the folder is claimed already. `callbacks` are Lightning's, and come
    after the run's own.

    Raises:
        Stopped: by a signal; what was trained is saved.
        ConfigError: the data set or this machine does not have what the config asks for.
        TrainingError: the data set gives no full batch, none is left of any, or the loss is not
            finite.
        TooManySkipsError, StateError: see pipelines.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")  # Lightning's own use
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # meant
    stop = StopRequest()
    with stop.listening():
        with as_config_errors(MisconfigurationException):
            module = Pretraining(config, config.data.open(), folder, stop)
            ours = run_callbacks(config, folder, module.dataset, module.facts, stop)
            trainer = build_trainer(config, folder, [*ours, *callbacks])
        stop.launcher = trainer.strategy.launcher
        checkpoint = checkpoint_to_resume(folder, trainer) if resume else None
        if config.trainer.init_from is not None and checkpoint is None:
            taken = initialize(module.method, read_weights(config.trainer.init_from))
            if trainer.is_global_zero:
                say_on_stderr(taken)
        with (
            _full_disk_as_run_error(folder),
            rank_errors_explained(config.trainer.rank_timeout_seconds),
        ):
            trainer.fit(module, ckpt_path=checkpoint)
    status = read_status(folder.status)  # of forked ranks this process knows nothing else
    if stop.signum is not None or (status is not None and status.state == "stopped"):
        raise Stopped(stop.signum or signal.SIGTERM)
    # a trainer that forked its ranks has taken no step itself
    if not (trainer.global_step or read_loss_file(folder.losses)):
        raise TrainingError(
            f"every sample of every batch was skipped, so that nothing was trained: "
            f"{folder.skip_log} has the causes"
        )


@contextmanager
def _full_disk_as_run_error(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise RunError(
            f"{folder.path} cannot be written: {error.strerror}. What is there is kept: make room "
            "and go on with --resume"
        ) from error
