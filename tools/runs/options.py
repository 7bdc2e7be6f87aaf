"""The options that belong to no other room: where the data lies, the optimizer, the trainer.

Each is one table of a config; the other tables are the option classes of the rooms themselves.
"""

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pipelines.loading.stream import StreamOptions
from pipelines.sampling.mixture import Mixture, shares_of
from shards import RemoteOptions, Samples, open_samples

#: What `trainer.loggers` may name: Lightning's loggers.
LoggerName = Literal["tensorboard", "csv", "wandb", "mlflow"]

_STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class MixedDataOptions:
    """`[data.mix.NAME]`: one data set of a mixture.

    Attributes:
        shards: as `data.shards`.
        weight: how much of the mixture it is, beside the others' weights.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    shards: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check(bool(self.shards), "shards", '""', "the folder of a data set")
        ok = math.isfinite(self.weight) and self.weight > 0
        _check(ok, "weight", self.weight, "a number greater than 0")


@dataclass(frozen=True, kw_only=True)
class DataOptions(StreamOptions):
    """`[data]`: where the shards lie, and the stream's own options.

    Attributes:
        shards: folder or URL (http, https, s3, …) of a data set, as `gdt shards build` or `gdt
            shards index` wrote it; or a folder of images, or of sounds (or a text file that lists
            some). A folder is relative to the one the command runs in.
        mix: in its place, several data sets by name, each with its weight.
        remote: cache, retries and connections, where data lies at a URL.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    shards: str | None = None
    mix: dict[str, MixedDataOptions] = field(default_factory=dict)
    remote: RemoteOptions = field(default_factory=RemoteOptions)

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.shards) == bool(self.mix):
            got = "both are given (shards = '' takes one back)" if self.mix else "neither is given"
            raise ValueError(
                f"shards = FOLDER names one data set, tables [data.mix.NAME] several; {got}, and "
                "one of the two is needed"
            )
        if self.mix:
            shares_of({name: part.weight for name, part in self.mix.items()})

    def open(self) -> Samples:
        """The data set, or the mixture.

        Raises:
            ShardError: there is no finished data set, or it cannot be read.
            ValueError: data sets that cannot be mixed.
        """
        if self.shards:
            return open_samples(self.shards, self.remote)
        parts = {name: open_samples(p.shards, self.remote) for name, p in self.mix.items()}
        return Mixture(parts, {name: part.weight for name, part in self.mix.items()})


@dataclass(frozen=True, kw_only=True)
class OptimizerOptions:
    """`[optimizer]`: the update rule and its learning rate over time.

    Attributes:
        name: "sgd" (with momentum), "adamw" or "lars".
        learning_rate: reached at the end of the warm-up.
        scale_by_ranks: multiply the learning rate by the number of ranks (Goyal et al. 2017).
        momentum: of SGD and LARS; beta1 of AdamW.
        second_momentum: beta2 of AdamW.
        weight_decay: on every parameter, as in the reference implementation of the GDT paper, but
            for `exclude_norm_and_bias`.
        final_weight_decay: at the last step, which it reaches along a half cosine (DINO: from 0.04
            to 0.4); `weight_decay` all along where it is not given.
        exclude_norm_and_bias: leave tensors of one dimension (biases, scales of norms) without
            decay, and under LARS without adaptation.
        norm_and_bias_scale: multiplies the learning rate of those tensors (Barlow Twins: 0.0048
            beside 0.2, so 0.024).
        lars: whose form of LARS: "moco_v3" (and BYOL, Barlow Twins), "simclr", "pixpro" or "larc"
            (SwAV).
        trust: η of LARS.
        warmup_epochs: linear rise of the learning rate; may be a fraction.
        warmup_steps: the same in steps; one of the two.
        warmup_start: share of the learning rate with which the warm-up of W steps begins; 1 / W
            unless it is given.
        warmup_to: the step that has the full rate, where `warmup_start` is given: the one "after"
            the warm-up, or its "last" (DINO).
        schedule: after the warm-up: "constant", "cosine" (to `final_share` at the last step) or
            "steps".
        schedule_by: "step", or "epoch" to change the rate at the start of each epoch only.
        final_share: of the learning rate, at the end of "cosine".
        milestones_epochs: for "steps": multiply by `gamma` at each of these epochs.
        gamma: see `milestones_epochs`.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: Literal["sgd", "adamw", "lars"] = "sgd"
    learning_rate: float
    scale_by_ranks: bool = False
    momentum: float = 0.9
    second_momentum: float = 0.999
    weight_decay: float = 1e-5
    final_weight_decay: float | None = None
    exclude_norm_and_bias: bool = False
    norm_and_bias_scale: float = 1.0
    lars: Literal["moco_v3", "simclr", "pixpro", "larc"] = "moco_v3"
    trust: float = 0.001
    warmup_epochs: float = 0.0
    warmup_steps: int = 0
    warmup_start: float | None = None
    warmup_to: Literal["after", "last"] = "after"
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    schedule_by: Literal["step", "epoch"] = "step"
    final_share: float = 0.0
    milestones_epochs: tuple[float, ...] = ()
    gamma: float = 0.1

    def __post_init__(self) -> None:
        _check(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        for name in ("momentum", "second_momentum"):
            value = getattr(self, name)
            _check(0 <= value < 1, name, value, "at least 0 and less than 1")
        for name in ("weight_decay", "warmup_epochs", "warmup_steps", "gamma", "final_share"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("trust", "norm_and_bias_scale"):
            _check(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        final = self.final_weight_decay
        _check(final is None or final >= 0, "final_weight_decay", final, "at least 0")
        increasing = list(self.milestones_epochs) == sorted(set(self.milestones_epochs))
        _check(increasing, "milestones_epochs", list(self.milestones_epochs), "increasing")
        has_milestones = bool(self.milestones_epochs)
        if has_milestones != (self.schedule == "steps"):
            raise ValueError(
                f"milestones_epochs = {list(self.milestones_epochs)} with schedule = "
                f'"{self.schedule}": schedule = "steps" needs milestones, no other takes them'
            )
        if self.warmup_epochs and self.warmup_steps:
            raise ValueError(
                f"warmup_epochs = {self.warmup_epochs} and warmup_steps = {self.warmup_steps}: "
                "the warm-up has one length, in one of the two"
            )
        self._refuse_idle()

    def _refuse_idle(self) -> None:
        """Refuse what is set and would do nothing."""
        warms_up = bool(self.warmup_epochs or self.warmup_steps)
        for name, default, takes, owner in (
            ("lars", "moco_v3", self.name == "lars", 'name = "lars"'),
            ("trust", 0.001, self.name == "lars", 'name = "lars"'),
            ("second_momentum", 0.999, self.name == "adamw", 'name = "adamw"'),
            ("final_share", 0.0, self.schedule == "cosine", 'schedule = "cosine"'),
            ("warmup_start", None, warms_up, "warmup_epochs or warmup_steps"),
            ("warmup_to", "after", self.warmup_start is not None, "warmup_start"),
            ("norm_and_bias_scale", 1.0, self.exclude_norm_and_bias, "exclude_norm_and_bias"),
        ):
            value = getattr(self, name)
            if value != default and not takes:
                raise ValueError(f"{name} = {value!r} does nothing without {owner}: set that, too")


@dataclass(frozen=True, kw_only=True)
class TrainerOptions:
    """`[trainer]`: how long, on what, and how often to log and save. Most go to Lightning.

    Attributes:
        epochs: passes over the data set.
        max_steps: stop after this many steps even if epochs are left; the learning rate follows
            the shorter of the two. Both may be raised on --resume.
        init_from: weights to begin with: a run folder or a file, see tools/runs/weights.py;
            `gdt pretrain --init-from` sets it.
        accelerator: "auto", "cpu" or "gpu".
        devices: ranks on each machine; "auto" takes one CPU process, or every GPU.
        num_nodes: machines.
        strategy: Lightning's name of one ("auto", "ddp", "fsdp", …).
        rank_timeout_seconds: how long ranks wait for one that does not answer; then the run ends.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        accumulate: parts in which a batch goes through the encoders, with all of it as negatives
            and exact gradients but for batch norm, whose statistics are of a part: the memory of
            one part's activations, for a second pass of the encoders.
        compile: compile the encoders with torch.compile: minutes at the start (it needs a C++
            compiler, on a GPU Triton), quicker steps after.
        channels_last: a pixel's channels side by side in memory, in pictures and weights, as tensor
            cores want them in reduced precision; a ResNet is quicker so on a CPU, too.
        sync_batch_norm: statistics of batch normalisation over all ranks.
        gradient_clip_norm: clip the gradient's 2-norm to this; none by default.
        gradient_clip_by: the norm of "all" gradients together, or of each "parameter" by itself
            (DINO).
        log_every_steps: a line in the logs every so many steps.
        loggers: besides `losses.csv`: "tensorboard", "csv", "wandb" or "mlflow".
        checkpoint_every_steps: a checkpoint every so many steps, and one at the end.
        keep_every_steps: keep the checkpoint of every so many steps for good, as
            checkpoints/step-000500.ckpt; none by default.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    epochs: int
    max_steps: int | None = None
    init_from: str | None = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int | Literal["auto"] = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    rank_timeout_seconds: float = 600.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accumulate: int = 1
    compile: bool = False
    channels_last: bool = False
    sync_batch_norm: bool = False
    gradient_clip_norm: float | None = None
    gradient_clip_by: Literal["all", "parameter"] = "all"
    log_every_steps: int = 1
    loggers: tuple[LoggerName, ...] = ("tensorboard",)
    checkpoint_every_steps: int = 200
    keep_every_steps: int | None = None

    def __post_init__(self) -> None:
        counts = ("epochs", "accumulate", "num_nodes", "log_every_steps", "checkpoint_every_steps")
        for name in (*counts, "max_steps", "devices", "keep_every_steps"):
            value = getattr(self, name)
            _check(not isinstance(value, int) or value >= 1, name, value, "at least 1")
        timeout = self.rank_timeout_seconds
        _check(timeout > 0, "rank_timeout_seconds", timeout, "more than 0")
        clip = self.gradient_clip_norm
        _check(clip is None or clip > 0, "gradient_clip_norm", clip, "more than 0")
        idle = clip is None and self.gradient_clip_by != "all"
        _check(not idle, "gradient_clip_by", self.gradient_clip_by, "with a gradient_clip_norm")


@dataclass(frozen=True, kw_only=True)
class ValidationOptions:
    """`[validation]`: scores while the run trains; none where no `shards` are named.

    Attributes:
        shards: as `data.shards`, of clips that the run does not train on.
        task: "retrieval" of each clip in its other modality, or "knn" of labels.
        train: for kNN, shards whose clips vote; those of `shards` by default, each clip left out of
            its own neighbours.
        k: for kNN, how many vote.
        every_epochs: after every so many epochs, and at the end of the run.
        segments: of each clip, averaged.
        patience: end the run after so many validations without a better score; never by default.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    shards: str | None = None
    task: Literal["retrieval", "knn"] = "retrieval"
    train: str | None = None
    k: int = 5
    every_epochs: int = 1
    segments: int = 2
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("k", "every_epochs", "segments", "patience"):
            value = getattr(self, name)
            _check(value is None or value >= 1, name, value, "at least 1")
        alone = self.train is None or self.task == "knn"
        _check(alone, "train", self.train, 'left out where task is not "knn": nothing votes')


def _check(ok: bool, name: str, got: object, allowed: str) -> None:
    if not ok:
        raise ValueError(f"{name} = {got}, must be {allowed}")
