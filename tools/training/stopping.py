"""An end on request: a signal lets the step in hand finish, a checkpoint follows, and one line.

    SIGTERM, SIGINT (Ctrl-C)    stop; exit status 143, 130
    SIGUSR1 in a SLURM job      stop, and put the job back in the queue: what `--signal=USR1@120`
                                in an sbatch script sends before the time limit

Of several ranks it is enough that one is told: they agree before every step. A second signal, two
seconds or more after the first, ends the run at once.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from tools.runs.checkpoints import read_newest
from tools.runs.run_folder import RunFolder

_SECONDS_TO_SECOND = 2.0  # a terminal and a launcher may both pass the same Ctrl-C on


class Stopped(BaseException):  # like KeyboardInterrupt: no fault that anyone should catch
    """The run was told to stop, and did.

    Attributes:
        signum: the signal; SIGTERM where another rank was told.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopRequest:
    """Whether this process has been told to stop.

    Attributes:
        early: why the run is to end early of its own accord; empty where it is not.
        in_training: steps are being taken; before that, there is nothing to wait for.
        launcher: what started the other ranks of this machine, to pass the signal on.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.early = ""
        self.in_training = False
        self.launcher: Any = None
        self._since = 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals over; outside of the main thread, where Python gives none, do nothing.

        Raises:
            Stopped: within, where there is no step to wait for.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signums = [signal.SIGTERM, signal.SIGINT]
        if "SLURM_JOB_ID" in os.environ:
            signums.append(signal.SIGUSR1)
        before = {signum: signal.signal(signum, self._receive) for signum in signums}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        is_first = self.signum is None
        if not is_first and now - self._since < _SECONDS_TO_SECOND:
            return
        self.signum, self._since = self.signum or signum, now
        ranks = getattr(self.launcher, "procs", None) or ()
        if ranks:
            self.launcher.kill(signum)
        forked = any(not isinstance(rank, subprocess.Popen) for rank in ranks)
        if not is_first or not (self.in_training or forked):
            raise Stopped(self.signum)

    def agreed(self, *flags: bool, device: torch.device) -> tuple[bool, ...]:
        """For "stop" and for each flag, whether any rank says so. Every rank must ask."""
        told = (self.signum is not None or bool(self.early), *flags)
        if not (dist.is_available() and dist.is_initialized()):
            return told
        votes = torch.tensor(told, dtype=torch.int32, device=device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        any_told = tuple(bool(vote) for vote in votes.tolist())
        if any_told[0] and not told[0]:
            self.signum = signal.SIGTERM
        return any_told


def describe_stop(stopped: Stopped, folder: RunFolder) -> str:
    """One line: what stopped the run, what is saved, and how to go on."""
    newest = read_newest(folder, lambda line: None)
    if newest is not None:
        path, content = newest
        step = content["global_step"]
        return (
            f"{stopped} after step {step}: saved in {path}; the same command with --resume "
            "goes on from there"
        )
    if folder.config.exists():
        return f"{stopped} before the first checkpoint: --resume begins again at the first step"
    return f"{stopped} before the first step: there is nothing to save, start again"


def requeue_slurm_job() -> str:
    """Put this SLURM job back in the queue; returns a line that says so, or why it is not."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(  # noqa: S603 - a fixed program, no shell
            ["scontrol", "requeue", job],  # noqa: S607 - where it lies is the cluster's matter
            stdout=sys.stderr,
            check=False,
        )
    except OSError as error:
        return f"SLURM job {job} was not put back in the queue: scontrol: {error.strerror}"
    if done.returncode:
        return (
            f"SLURM job {job} was not put back in the queue: scontrol ended with {done.returncode}"
        )
    return f"SLURM job {job} is back in the queue"
