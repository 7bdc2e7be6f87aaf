"""A signal ends a run with a checkpoint, one line and the status that shells expect."""

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from tests.tools.training.commands import children_of, start, wait_for_step
from tools.runs.checkpoints import load_checkpoint
from tools.runs.losses import read_losses
from tools.runs.run_folder import RunFolder
from tools.training.stopping import Stopped, StopRequest, describe_stop

LONG = [
    *("--set", "trainer.epochs=400", "--set", "trainer.max_steps=40"),
    *("--set", "trainer.checkpoint_every_steps=1000"),  # only where it is asked to stop
]
TWO_RANKS = ["--set", "trainer.devices=2", "--set", "trainer.strategy=ddp_fork"]


def step_of(run: Path) -> int:
    step: int = load_checkpoint(RunFolder(run).checkpoint)["global_step"]
    return step


@pytest.mark.slow(seconds=25)
def test_a_stopped_run_is_saved_and_goes_on_as_if_it_never_was(
    tiny_config: Path, tmp_path: Path
) -> None:
    run, output = tmp_path / "run", tmp_path / "output"
    command = ("pretrain", tiny_config, *LONG, "--out", run)
    resume: tuple[str, ...] = ()
    for signum, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = step_of(run) if resume else 0
        process = start(*command, *resume, output=output)
        wait_for_step(process, run, before + 2)
        assert process.pid is not None
        os.kill(process.pid, signum)
        process.join()
        assert process.exitcode == status
        step, last_line = step_of(run), output.read_text().splitlines()[-1]
        assert last_line == (
            f"stopped by {signum.name} after step {step}: saved in {run}/checkpoints/last.ckpt; "
            "the same command with --resume goes on from there"
        )
        assert step == len(read_losses(run)) >= before + 3
        resume = ("--resume",)

    for out, extra in ((run, resume), (tmp_path / "unbroken", ())):
        process = start("pretrain", tiny_config, *LONG, "--out", out, *extra, output=output)
        process.join()
        assert process.exitcode == 0
    assert read_losses(run) == read_losses(tmp_path / "unbroken")
    assert len(read_losses(run)) == 40


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize("told", ["all", "one"])
def test_ranks_stop_together(tiny_config: Path, tmp_path: Path, told: str) -> None:
    run, output = tmp_path / "run", tmp_path / "output"
    process = start("pretrain", tiny_config, *LONG, *TWO_RANKS, "--out", run, output=output)
    wait_for_step(process, run, 2)
    assert process.pid is not None
    os.kill(process.pid if told == "all" else children_of(process.pid)[-1], signal.SIGTERM)
    process.join()
    assert process.exitcode == 143
    assert step_of(run) == len(read_losses(run))
    assert f"stopped by SIGTERM after step {step_of(run)}: saved in" in output.read_text()


@pytest.mark.slow(seconds=10)
def test_a_slurm_job_goes_back_to_the_queue(tiny_config: Path, tmp_path: Path) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    run, output = tmp_path / "run", tmp_path / "output"
    environment = {
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_NAME": "interactive",  # to Lightning: no `srun` for every rank
        "PATH": f"{scontrol.parent}:{os.environ['PATH']}",
    }
    process = start("pretrain", tiny_config, *LONG, "--out", run, output=output, **environment)
    wait_for_step(process, run, 1)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGUSR1)
    process.join()
    assert process.exitcode == 0
    assert (tmp_path / "asked").read_text() == "requeue 17\n"
    lines = output.read_text().splitlines()[-2:]
    assert lines[0].startswith(f"stopped by SIGUSR1 after step {step_of(run)}: saved in")
    assert lines[1] == "SLURM job 17 is back in the queue"


def test_before_training_there_is_nothing_to_wait_for() -> None:
    handler = signal.getsignal(signal.SIGTERM)
    stop = StopRequest()
    with pytest.raises(Stopped, match="stopped by SIGTERM"), stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == handler


def test_in_training_a_step_is_finished_and_a_second_signal_does_not_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = StopRequest()
    stop.in_training = True
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # the same one, passed on by a launcher
        assert stop.signum == signal.SIGINT
        monkeypatch.setattr("tools.training.stopping._SECONDS_TO_SECOND", 0.0)
        with pytest.raises(Stopped, match="stopped by SIGINT"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_another_thread_leaves_the_signals_alone() -> None:
    found = []

    def listen() -> None:
        with StopRequest().listening():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_what_is_not_there_is_not_promised(tmp_path: Path) -> None:
    folder, stopped = RunFolder(tmp_path), Stopped(signal.SIGTERM)
    assert describe_stop(stopped, folder) == (
        "stopped by SIGTERM before the first step: there is nothing to save, start again"
    )
    folder.config.write_text("")
    assert describe_stop(stopped, folder) == (
        "stopped by SIGTERM before the first checkpoint: --resume begins again at the first step"
    )
    assert not re.search(r"\.ckpt", describe_stop(stopped, folder))
