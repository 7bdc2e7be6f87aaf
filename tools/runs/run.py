"""A finished (or unfinished) run as something to evaluate: its config and its trained method."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from gdt import Plan
from models import Labels, Method, RunFacts, Setting, build_method
from pipelines.device.transform import DeviceOptions, DeviceTransform
from tools.runs.checkpoints import (
    CLASSES,
    RUN_FACTS,
    TRAINED_ON,
    load_checkpoint,
    read_newest,
)
from tools.runs.config import Config, ConfigError, as_config_errors, load_config
from tools.runs.run_folder import RunError, RunFolder
from tools.terminal import Terminal

_METHOD = "method."  # where the training module keeps it

#: Precision → type of the pictures: what autocast makes of them before the first convolution.
PICTURE_DTYPES = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}


@dataclass(frozen=True)
class Run:
    """What evaluation needs of a run.

    Attributes:
        path: the run folder.
        config: as it was resolved.
        setting: what the method was built for: plan, encoders and facts of the run.
        method: with the weights of the last checkpoint, in evaluation mode, on the CPU.
        device_transform: centre crops, no jitter, no masks.
        step: optimizer steps behind the weights.
        trained_on: fingerprint of the data set that it was trained on; a mixture's holds those of
            its data sets.
    """

    path: Path
    config: Config
    setting: Setting
    method: Method
    device_transform: DeviceTransform
    step: int
    trained_on: str

    @property
    def plan(self) -> Plan:
        """Of the config."""
        return self.setting.plan


def build_device_transform(config: Config, *, training: bool) -> DeviceTransform:
    """The transform that a config describes; in training, of its precision and layout.

    Raises:
        ConfigError: its views or its tokenizer do not go with its plan and encoders.
    """
    options = DeviceOptions(
        config.video_augment,
        config.audio_augment,
        config.image_augment,
        config.log_mel,
        config.text,
    )
    plan, seed, trainer = config.build_plan(), config.seed, config.trainer
    dtype, channels_last = torch.float32, False
    if training:
        dtype, channels_last = PICTURE_DTYPES[trainer.precision], trainer.channels_last
    with as_config_errors():
        transform = DeviceTransform(
            plan, options, seed, training=training, dtype=dtype, channels_last=channels_last
        )
    num_tokens = 0 if transform.tokens is None else transform.tokens.vocab_size
    if num_tokens > config.encoders.vocab_size:
        raise ConfigError(
            f"encoders.vocab_size = {config.encoders.vocab_size}, and {config.text.tokenizer} has "
            f"{num_tokens} tokens: set encoders.vocab_size to as many, or more"
        )
    return transform


def say_on_stderr(line: str) -> None:
    """Print a line for the person at the keyboard, beside what the command prints for a pipe."""
    Terminal(stderr=True).say(line)


def load_run(
    path: Path, say: Callable[[str], None] = say_on_stderr, *, checkpoint: str = "last"
) -> Run:
    """Load a run folder. Nothing in it is executed: weights are read as tensors only.

    Args:
        path: of the folder.
        say: gets a line where the last checkpoint is damaged and the one before it is taken.
        checkpoint: "last", "best": that of the highest validation score, or the number of a step
            that was kept (`trainer.keep_every_steps`).

    Raises:
        RunError: no run folder, or one without a checkpoint, or with another run's.
        ConfigError: its config cannot be used by this version.
    """
    folder = RunFolder(path)
    if not folder.config.exists():
        raise RunError(
            f"{path} is no run folder: there is no {folder.config.name} in it. "
            "Give the --out of `gdt pretrain`"
        )
    asked = _asked_checkpoint(folder, checkpoint, say)
    if asked is None:
        raise RunError(
            f"{path} has no checkpoint yet ({folder.checkpoint.relative_to(path)}): "
            "go on with `gdt pretrain … --resume`, or save more often with "
            "trainer.checkpoint_every_steps"
        )
    newest, found = asked
    config = load_config(folder.config)
    if folder.tokenizer.exists():  # the one that it was trained with
        text = replace(config.text, tokenizer=str(folder.tokenizer))
        config = config.model_copy(update={"text": text})
    needed = {"state_dict", "global_step", TRAINED_ON}
    if not isinstance(found, dict) or not needed <= found.keys():
        missing = needed - found.keys() if isinstance(found, dict) else needed
        raise RunError(
            f"{newest} is not a checkpoint of this `gdt pretrain`: it lacks "
            f"{', '.join(sorted(missing))}"
        )
    # earlier versions saved no facts: their methods, which evaluation knows too, asked for none
    earlier = {"num_samples": sys.maxsize, "batch_size": config.data.batch_size}
    earlier |= {"steps_per_epoch": 1, "num_steps": found["global_step"]}
    facts = RunFacts(**found.get(RUN_FACTS, earlier))
    labels = Labels(found[CLASSES]) if CLASSES in found else None
    setting = Setting(config.build_plan(), config.encoders, facts, labels)
    method = build_method(config.method, setting)
    weights = found["state_dict"]
    try:
        method.load_state_dict(
            {k.removeprefix(_METHOD): v for k, v in weights.items() if k.startswith(_METHOD)}
        )
    except RuntimeError as error:
        raise RunError(
            f"{newest} does not belong to {folder.config}: {_first_lines(error)}. "
            "Both must be of one run, and of this version"
        ) from error
    return Run(
        path=path,
        config=config,
        setting=setting,
        method=method.eval(),
        device_transform=build_device_transform(config, training=False),
        step=found["global_step"],
        trained_on=found[TRAINED_ON],
    )


def _asked_checkpoint(
    folder: RunFolder, checkpoint: str, say: Callable[[str], None]
) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that was asked for, its file and content; None where there is no last yet."""
    if checkpoint == "last":
        return read_newest(folder, say)
    if checkpoint == "best":
        if not folder.best_checkpoint.exists():
            raise RunError(
                f"{folder.path} has no best checkpoint: nothing was validated. Name [validation] "
                "shards in its config, or take the last one"
            )
        return folder.best_checkpoint, load_checkpoint(folder.best_checkpoint)
    kept = folder.kept_steps()
    if not checkpoint.isdecimal() or int(checkpoint) not in kept:
        raise RunError(
            f"{folder.path} has no checkpoint {checkpoint!r}: there is the last one, the best one "
            "by validation, and by its number each step that trainer.keep_every_steps kept: "
            f"{', '.join(map(str, kept)) or 'none'}"
        )
    path = folder.kept_checkpoint(int(checkpoint))
    return path, load_checkpoint(path)


def _first_lines(error: Exception) -> str:
    """What torch says of weights that do not fit, without all their names."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}…"


def choose_device(name: str) -> torch.device:
    """The device called `name`; "auto" is a GPU where there is one.

    Raises:
        RunError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise RunError(
            f"--device {name}: there is no such device here; use cpu, or cuda where there is an "
            "NVIDIA GPU, or auto"
        ) from error
    return device
