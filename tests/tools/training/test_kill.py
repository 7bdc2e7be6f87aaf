"""A run killed with SIGKILL, wherever it happens to be, and resumed is the unbroken run."""

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from tools.commands.pretrain import pretrain
from tools.runs.losses import read_losses

NUM_KILLS = 4
NUM_STEPS = 48
LONGER = ["trainer.epochs=16", "trainer.checkpoint_every_steps=3"]  # of 3 steps each

Process = multiprocessing.context.ForkServerProcess


@pytest.fixture(scope="module")
def processes() -> multiprocessing.context.ForkServerContext:
    """New processes with the slow imports behind them, and nothing else."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tools.training.fit", "tools.display.loss_curve"])
    return context


def kill_after(process: Process, run: Path, step: int, delay_seconds: float) -> None:
    """SIGKILL a process some time after it logged a step."""
    while process.is_alive():
        rows = read_losses(run)
        if rows and rows[-1].step >= step:
            time.sleep(delay_seconds)
            break
        time.sleep(0.01)
    assert process.is_alive(), "it ended before it could be killed"
    process.kill()
    process.join()


@pytest.mark.slow
def test_killed_and_resumed_gives_the_losses_of_the_unbroken_run(
    processes: multiprocessing.context.ForkServerContext, tiny_config: Path, tmp_path: Path
) -> None:
    def start(run: Path, resume: bool) -> Process:
        process = processes.Process(target=pretrain, args=(tiny_config, LONGER, run, resume))
        process.start()
        return process

    unbroken = start(tmp_path / "unbroken", False)
    unbroken.join()
    assert unbroken.exitcode == 0
    expected = read_losses(tmp_path / "unbroken")
    assert [row.step for row in expected] == list(range(NUM_STEPS))

    run = tmp_path / "killed"
    moments = random.Random(0)
    spacing = NUM_STEPS // (NUM_KILLS + 2)
    for number in range(NUM_KILLS):
        step = moments.randrange(number * spacing, (number + 1) * spacing)
        process = start(run, resume=number > 0)
        kill_after(process, run, step, moments.uniform(0, 0.1))
        assert read_losses(run) == expected[: len(read_losses(run))]
    for _ in ("the rest", "nothing left to do"):
        process = start(run, resume=True)
        process.join()
        assert process.exitcode == 0
        assert read_losses(run) == expected
