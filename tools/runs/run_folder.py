"""The folder of a run: what lies where, and who may write into it.

    RUN/config.toml            the resolved config
    RUN/checkpoints/last.ckpt  everything needed to go on, or to evaluate; previous.ckpt: before it
    RUN/logs/losses.csv        see tools/runs/losses.py
    RUN/logs/validation.csv    see tools/runs/validation_scores.py
    RUN/logs/tensorboard/      the losses and more, for TensorBoard
    RUN/skips.jsonl            every skipped sample, and why
    RUN/pictures/              what the command drew
    RUN/status.json            see tools/runs/status.py
    RUN/tokenizer.json         a copy of text.tokenizer, where the plan has the modality text
    RUN/lock                   held by the process that trains here; holds its name

A folder is a run's because of its config.toml, and keeps to the config it began with.
"""

import fcntl
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tools.runs.config import Config, differing_keys, load_config
from tools.runs.losses import read_loss_file

#: What may change between two attempts of one run: where and how fast it runs, not what it learns.
#: What the lines of `differing_keys` begin with.
_FREE_ON_RESUME = re.compile(
    # the stream's fingerprint says whether these are the same data sets
    r"data\.(mix\.[^:]*\.)?shards:"
    r"|data\.(threads|prefetch|isolate|isolate_seconds):"
    r"|data\.remote\."
    r"|trainer\.(accelerator|devices|num_nodes|strategy|rank_timeout_seconds):"
    r"|trainer\.(epochs|max_steps):"  # longer, never shorter
    r"|trainer\.(loggers|checkpoint_every_steps|keep_every_steps):"
    r"|validation\."
)


class RunError(Exception):
    """A run folder that cannot be used as asked; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    LAST: ClassVar[str] = "last.ckpt"
    PREVIOUS: ClassVar[str] = "previous.ckpt"

    @property
    def config(self) -> Path:
        """The resolved config; a folder without it holds no run."""
        return self.path / "config.toml"

    @property
    def tokenizer(self) -> Path:
        """What its captions are made into tokens with."""
        return self.path / "tokenizer.json"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / self.LAST

    @property
    def previous_checkpoint(self) -> Path:
        """The one before it, for when the newest is damaged."""
        return self.path / "checkpoints" / self.PREVIOUS

    @property
    def status(self) -> Path:
        """How the run stands."""
        return self.path / "status.json"

    @property
    def losses(self) -> Path:
        """The loss of every logged step."""
        return self.path / "logs" / "losses.csv"

    @property
    def validation(self) -> Path:
        """The validation scores."""
        return self.path / "logs" / "validation.csv"

    @property
    def best_checkpoint(self) -> Path:
        """The checkpoint of the highest validation score."""
        return self.path / "checkpoints" / "best.ckpt"

    def kept_checkpoint(self, step: int) -> Path:
        """The checkpoint of one step, where `trainer.keep_every_steps` keeps it."""
        return self.checkpoint.with_name(f"step-{step:06d}.ckpt")

    def kept_steps(self) -> list[int]:
        """The steps whose checkpoints are kept, rising."""
        kept = self.checkpoint.parent.glob("step-*.ckpt")
        return sorted(int(path.stem.removeprefix("step-")) for path in kept)

    @property
    def skip_log(self) -> Path:
        """Skipped samples."""
        return self.path / "skips.jsonl"

    @property
    def loss_curve(self) -> Path:
        """The picture of the losses."""
        return self.path / "pictures" / "loss.png"

    @property
    def lock(self) -> Path:
        """Held by the process that trains here."""
        return self.path / "lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out while this one trains here; the system lets go if it dies.

        Raises:
            RunError: another process trains in it, or the folder cannot be written.
        """
        made = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written: {error.strerror}. Choose another folder with "
                "--out, or change its permissions"
            ) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(lock, 200, 0).decode(errors="replace").strip() or "unknown"
                raise RunError(
                    f"{self.path} is in use: a run is at work in it ({holder}). Wait until it "
                    "ends, stop it, or choose another folder with --out"
                ) from error
            os.truncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
            yield
        finally:
            os.close(lock)
            if made and [file.name for file in self.path.iterdir()] == [self.lock.name]:
                self.lock.unlink()
                self.path.rmdir()

    @contextmanager
    def claimed(self, config: Config, *, resume: bool, is_first: bool = True) -> Iterator[None]:
        """Hold and claim the folder while a run trains in it; a start that failed leaves it free.

        Every rank may call this; the first one alone does something.

        Raises:
            RunError: see `held` and `claim`.
        """
        if not is_first:
            yield
            return
        with self.held():
            self.claim(config, resume=resume)
            try:
                yield
            except BaseException:
                self.release()
                raise

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
            for name in ("epochs", "max_steps"):
                wanted, had = (getattr(c.trainer, name) for c in (config, saved))
                if (wanted or sys.maxsize) < (had or sys.maxsize):
                    raise RunError(
                        f"{self.path} holds a run of trainer.{name} = {had or 'not set'}, and this "
                        f"config asks for {wanted}: a run can be made longer, not shorter. Ctrl-C "
                        "ends one early; choose another folder with --out for another run"
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
        self._keep_tokenizer(config)
        partial = self.config.with_name(self.config.name + ".partial")
        partial.write_text(config.to_toml(), encoding="utf-8")
        partial.replace(self.config)

    def _keep_tokenizer(self, config: Config) -> None:
        given = config.text.tokenizer
        if given is None or not Path(given).is_file():  # who needs it will say so
            return
        tokenizer = Path(given).read_bytes()
        if self.tokenizer.exists() and self.tokenizer.read_bytes() != tokenizer:
            raise RunError(
                f"{given} is not the tokenizer that the run in {self.path} began with, which is "
                f"{self.tokenizer}: put that one back, or choose another folder with --out"
            )
        self.tokenizer.write_bytes(tokenizer)

    def release(self) -> None:
        """Give the folder up where nothing was trained in it: the mistake can be mended."""
        kept = self.checkpoint.exists() or self.previous_checkpoint.exists()
        if not (kept or read_loss_file(self.losses)):
            for file in (self.config, self.status, self.tokenizer):
                file.unlink(missing_ok=True)
