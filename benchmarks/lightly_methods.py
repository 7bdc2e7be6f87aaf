"""lightly's form of the methods that it has, around an encoder of ours, and a plain loop for them.

lightly brings heads and losses; its documentation shows for each method how a training step puts
them together, and so do the classes here, with the sizes of our options. The loop takes its batches
from our stream, so that both sides see the same pictures, and writes a run folder, so that the same
evaluation scores both: our method of the same config, with the encoder that lightly's loss trained.

lightly's losses are not always ours: its NT-Xent averages over rows where ours sums over both
views, its queue takes in no batch that does not fit whole.

Legend: B samples, V views of each.
"""

import copy
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from lightly.loss import (
    BarlowTwinsLoss,
    DINOLoss,
    NegativeCosineSimilarity,
    NTXentLoss,
    SwaVLoss,
)
from lightly.models.modules import heads
from lightly.models.utils import (
    batch_shuffle,
    batch_unshuffle,
    deactivate_requires_grad,
    update_momentum,
)
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn

from gdt import Batch
from models import Encoder, RunFacts, Setting, build_method
from models.method import ParameterGroup
from pipelines.device.overlap import Overlap
from pipelines.loading.stream import Stream
from tools.runs.checkpoints import RUN_FACTS, TRAINED_ON
from tools.runs.config import Config
from tools.runs.run import build_device_transform
from tools.runs.run_folder import RunFolder
from tools.training.optimizer import build_optimizer
from tools.training.whole_run import WholeRun


class LightlyMethod(nn.Module):
    """An encoder with lightly's parts of one method.

    Args:
        encoder: trained in place.
        options: of our method of the same name: its sizes are taken.
        num_steps: of the run.

    Attributes:
        joined: whether all views go through the encoder as one batch, as in our SimCLR, SwAV and
            DINO and their authors' code, or one by one, as in lightly's examples.
    """

    joined = False

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__()
        self.encoder, self.options, self.num_steps = encoder, options, num_steps

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """The loss of views [B, 3, H, W], V of them."""
        raise NotImplementedError

    def encode(self, encoder: nn.Module, views: Sequence[Tensor]) -> Sequence[Tensor]:
        """Features of each view."""
        if self.joined:
            return torch.as_tensor(encoder(torch.cat(list(views)))).chunk(len(views))
        return [encoder(view) for view in views]

    def before_step(self, step: int) -> None:
        """What lightly's examples do before the loss."""

    def after_backward(self, epoch: int) -> None:
        """What they do between gradients and the optimizer's step."""


class LightlySimCLR(LightlyMethod):
    """Projection head and NT-Xent."""

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__(encoder, options, num_steps)
        self.head = heads.SimCLRProjectionHead(
            encoder.embedding_dim, options.hidden_dim, options.embedding_dim
        )
        self.loss = NTXentLoss(temperature=options.temperature)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """NT-Xent of both views."""
        first, second = (self.head(rows) for rows in self.encode(self.encoder, views))
        return torch.as_tensor(self.loss(first, second))


class LightlyMoCo(LightlyMethod):
    """Projection head, their copies, and NT-Xent with a memory bank."""

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__(encoder, options, num_steps)
        dim = options.embedding_dim
        self.head = heads.MoCoProjectionHead(encoder.embedding_dim, options.hidden_dim, dim)
        self.slow_encoder, self.slow_head = copy.deepcopy(encoder), copy.deepcopy(self.head)
        deactivate_requires_grad(self.slow_encoder)
        deactivate_requires_grad(self.slow_head)
        self.loss = NTXentLoss(options.temperature, memory_bank_size=(options.queue_size, dim))

    def before_step(self, step: int) -> None:
        """Move the copies."""
        update_momentum(self.encoder, self.slow_encoder, m=self.options.momentum)
        update_momentum(self.head, self.slow_head, m=self.options.momentum)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Queries of the first view against keys of the second and the bank."""
        queries = self.head(self.encoder(views[0]))
        with torch.no_grad():
            shuffled, order = batch_shuffle(views[1])
            keys = batch_unshuffle(self.slow_head(self.slow_encoder(shuffled)), order)
        return torch.as_tensor(self.loss(queries, keys))


class LightlyBYOL(LightlyMethod):
    """Projection and prediction heads, copies, and the negative cosine."""

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__(encoder, options, num_steps)
        hidden, dim = options.hidden_dim, options.embedding_dim
        self.head = heads.BYOLProjectionHead(encoder.embedding_dim, hidden, dim)
        self.predictor = heads.BYOLPredictionHead(dim, hidden, dim)
        self.slow_encoder, self.slow_head = copy.deepcopy(encoder), copy.deepcopy(self.head)
        deactivate_requires_grad(self.slow_encoder)
        deactivate_requires_grad(self.slow_head)
        self.loss = NegativeCosineSimilarity()

    def before_step(self, step: int) -> None:
        """Move the copies."""
        momentum = cosine_schedule(step, self.num_steps, self.options.momentum, 1)
        update_momentum(self.encoder, self.slow_encoder, m=momentum)
        update_momentum(self.head, self.slow_head, m=momentum)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Each view's prediction of the other."""
        predicted = [self.predictor(self.head(self.encoder(view))) for view in views]
        with torch.no_grad():
            targets = [self.slow_head(self.slow_encoder(view)) for view in views]
        one, two = self.loss(predicted[0], targets[1]), self.loss(predicted[1], targets[0])
        return torch.as_tensor(0.5 * (one + two))


class LightlySimSiam(LightlyMethod):
    """Projection and prediction heads, and the negative cosine."""

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__(encoder, options, num_steps)
        hidden, dim = options.hidden_dim, options.embedding_dim
        self.head = heads.SimSiamProjectionHead(encoder.embedding_dim, hidden, dim)
        self.predictor = heads.SimSiamPredictionHead(dim, options.predictor_dim, dim)
        self.loss = NegativeCosineSimilarity()

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Each view's prediction of the other."""
        projected = [self.head(self.encoder(view)) for view in views]
        predicted = [self.predictor(rows) for rows in projected]
        one = self.loss(predicted[0], projected[1].detach())
        two = self.loss(predicted[1], projected[0].detach())
        return torch.as_tensor(0.5 * (one + two))


class LightlyBarlowTwins(LightlyMethod):
    """Projection head, and the loss of the cross-correlation."""

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__(encoder, options, num_steps)
        self.head = heads.BarlowTwinsProjectionHead(
            encoder.embedding_dim, options.hidden_dim, options.embedding_dim
        )
        self.loss = BarlowTwinsLoss(lambda_param=options.off_diagonal)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Of both views."""
        first, second = (self.head(self.encoder(view)) for view in views)
        return torch.as_tensor(self.loss(first, second))


class LightlySwAV(LightlyMethod):
    """Projection head, prototypes, and the swapped prediction."""

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__(encoder, options, num_steps)
        dim, frozen = options.embedding_dim, options.frozen_prototype_steps
        self.head = heads.SwaVProjectionHead(encoder.embedding_dim, options.hidden_dim, dim)
        self.prototypes = heads.SwaVPrototypes(dim, options.num_prototypes, frozen)
        self.loss = SwaVLoss(
            options.temperature, options.sinkhorn_iterations, sinkhorn_epsilon=options.epsilon
        )
        self.step = 0

    def before_step(self, step: int) -> None:
        """Bring the prototypes to length 1."""
        self.step = step
        self.prototypes.normalize()

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Predictions of all views, assignments of the first."""
        encoded = self.encode(self.encoder, views)
        embedded = [nn.functional.normalize(self.head(rows), dim=1) for rows in encoded]
        scores = [self.prototypes(rows, self.step) for rows in embedded]
        count = self.options.assigned_views
        return torch.as_tensor(self.loss(scores[:count], scores[count:])).squeeze()


class LightlyDINO(LightlyMethod):
    """DINO's head, its copies, and the loss with its centre."""

    def __init__(self, encoder: Encoder, options: Any, num_steps: int) -> None:
        super().__init__(encoder, options, num_steps)
        self.head = heads.DINOProjectionHead(
            encoder.embedding_dim,
            options.hidden_dim,
            options.embedding_dim,
            options.num_outputs,
            freeze_last_layer=options.frozen_epochs,
        )
        self.slow_encoder = copy.deepcopy(encoder)
        self.slow_head = heads.DINOProjectionHead(
            encoder.embedding_dim, options.hidden_dim, options.embedding_dim, options.num_outputs
        )
        self.slow_head.load_state_dict(self.head.state_dict())
        deactivate_requires_grad(self.slow_encoder)
        deactivate_requires_grad(self.slow_head)
        self.loss = DINOLoss(
            options.num_outputs,
            options.first_teacher_temperature,
            options.teacher_temperature,
            max(1, options.teacher_warmup_epochs),
            options.temperature,
            options.center_momentum,
        )

    def before_step(self, step: int) -> None:
        """Move the copies."""
        momentum = cosine_schedule(step, self.num_steps, self.options.momentum, 1)
        update_momentum(self.encoder, self.slow_encoder, m=momentum)
        update_momentum(self.head, self.slow_head, m=momentum)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Every view's output, and the teacher's of the first."""
        with torch.no_grad():
            seen = views[: self.options.global_views]
            teacher = [self.slow_head(rows) for rows in self.encode(self.slow_encoder, seen)]
        student = [self.head(rows) for rows in self.encode(self.encoder, views)]
        return torch.as_tensor(self.loss(teacher, student))

    def after_backward(self, epoch: int) -> None:
        """Leave the last layer as it is in the first epochs."""
        self.head.cancel_last_layer_gradients(epoch)


#: Our method's name → lightly's form of it.
LIGHTLY: Final[dict[str, type[LightlyMethod]]] = {
    "simclr": LightlySimCLR,
    "moco": LightlyMoCo,
    "byol": LightlyBYOL,
    "simsiam": LightlySimSiam,
    "barlow_twins": LightlyBarlowTwins,
    "swav": LightlySwAV,
    "dino": LightlyDINO,
}


def views_of(batch: Batch, column: int, count: int) -> list[Tensor]:
    """The pictures of each draw of the augmentation: V tensors [B, 3, H, W]."""
    return [batch.where(column, draw).view("image").values for draw in range(count)]


def train_lightly(config: Config, path: Path, *, resume: bool = False) -> None:
    """Train lightly's form of a config's method in a plain loop; writes a run folder.

    Args:
        config: of a method that `LIGHTLY` has, and of pictures.
        path: the folder.
        resume: begins anew: the loop keeps no state between its scores.
    """
    if resume:
        shutil.rmtree(path)
    folder, plan, dataset = RunFolder(path), config.build_plan(), config.data.open()
    steps_per_epoch = len(dataset) // config.data.batch_size
    num_steps = config.trainer.max_steps or config.trainer.epochs * steps_per_epoch
    facts = RunFacts(len(dataset), config.data.batch_size, steps_per_epoch, num_steps)
    torch.manual_seed(config.seed)
    ours = build_method(config.method, Setting(plan, config.encoders, facts))
    theirs = LIGHTLY[config.method.name](ours.towers.encoder("image"), config.method, num_steps)
    optimizer, schedule = build_optimizer(
        config.optimizer,
        [ParameterGroup(list(theirs.parameters()))],
        num_ranks=1,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
    )
    column, count = plan.names.index("augmentation"), plan.draws("augmentation")
    folder.checkpoint.parent.mkdir(parents=True)
    folder.config.write_text(config.to_toml(), encoding="utf-8")
    kept = config.trainer.keep_every_steps or num_steps
    for step, batch in enumerate(_batches(config, num_steps), start=1):
        theirs.before_step(step - 1)
        loss = theirs(views_of(batch, column, count))
        optimizer.zero_grad()
        loss.backward()
        theirs.after_backward(batch.epoch)
        optimizer.step()
        schedule.step()
        if step % kept == 0 or step == num_steps:
            weights = {f"method.{name}": value for name, value in ours.state_dict().items()}
            about = {TRAINED_ON: dataset.fingerprint, RUN_FACTS: asdict(facts)}
            last = {"state_dict": weights, "global_step": step, **about}
            torch.save(last, folder.kept_checkpoint(step))
    torch.save(last, folder.checkpoint)


def _batches(config: Config, num_steps: int) -> WholeRun:
    """The batches that `gdt pretrain` would train on."""
    plan = config.build_plan()
    stream = Stream(config.data.open(), plan, config.segment, config.data, config.seed)
    overlap = Overlap(build_device_transform(config, training=True), torch.device("cpu"))
    return WholeRun(stream, overlap, num_steps, lambda is_empty: (False, is_empty), print)
