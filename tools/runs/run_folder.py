"""The folder of a run: what lies where, and who may write into it.

    RUN/config.toml            the resolved config
    RUN/checkpoints/last.ckpt  everything needed to go on, or to evaluate
    RUN/logs/losses.csv        see tools/runs/losses.py
    RUN/logs/tensorboard/      the same for TensorBoard
    RUN/skips.jsonl            every skipped sample, and why
    RUN/pictures/              what the command drew

A folder is a run's because of its config.toml, and keeps to the config it began with.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from tools.runs.config import Config, differing_keys, load_config
from tools.runs.losses import read_loss_file

#: What may change between two attempts of one run: where and how fast it runs, not what it learns.
#: What the lines of `differing_keys` begin with.
_FREE_ON_RESUME = re.compile(
    # the stream's fingerprint says whether these are the same data sets
    r"data\.(mix\.[^:]*\.)?shards:"
    r"|data\.(threads|prefetch|isolate|isolate_seconds):"
    r"|data\.remote\."
    r"|trainer\.(accelerator|devices|num_nodes|strategy|checkpoint_every_steps):"
)


class RunError(Exception):
    """A run folder that cannot be used as asked; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved config; a folder without it holds no run."""
        return self.path / "config.toml"

    @property
    def checkpoint(self) -> Path:
        """The one checkpoint, always whole."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def losses(self) -> Path:
        """The loss of every logged step."""
        return self.path / "logs" / "losses.csv"

    @property
    def skip_log(self) -> Path:
        """Skipped samples."""
        return self.path / "skips.jsonl"

    @property
    def loss_curve(self) -> Path:
        """The picture of the losses."""
        return self.path / "pictures" / "loss.png"

    def claim(self, config: Config, *, resume: bool) -> None:
        """Make the folder that of a run of `config`. Of several ranks only the first may call it.

        Raises:
            RunError: it already holds a run of another config, or one that `resume` was not asked
                for, or none to resume.
        """
        if self.config.exists():
            saved = load_config(self.config)
            differing = differing_keys(config, saved)
            kept = [line for line in differing if not _FREE_ON_RESUME.match(line)]
            if kept:
                raise RunError(
                    f"{self.path} already holds a run of another config. This one differs in\n  "
                    + "\n  ".join(kept)
                    + "\nChoose another folder with --out, or use the config of that run: "
                    + str(self.config)
                )
            if not resume:
                raise RunError(
                    f"{self.path} already holds a run of this config. "
                    "Continue it with --resume, or choose another folder with --out"
                )
        elif resume:
            raise RunError(
                f"{self.path} holds no run to resume: there is no {self.config.name} in it. "
                "Start one without --resume"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        partial = self.config.with_name(self.config.name + ".partial")
        partial.write_text(config.to_toml(), encoding="utf-8")
        partial.replace(self.config)

    def release(self) -> None:
        """Give the folder up where nothing was trained in it: the mistake can be mended."""
        if not (self.checkpoint.exists() or read_loss_file(self.losses)):
            self.config.unlink(missing_ok=True)
