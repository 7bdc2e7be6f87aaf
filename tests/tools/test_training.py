from pathlib import Path
from typing import Any

import pytest
import torch

from tools.checkpoints import AtomicCheckpointIO
from tools.config import load_config
from tools.losses import read_losses
from tools.run import load_run
from tools.run_folder import RunFolder
from tools.training import fit


def train(config: Path, run: Path, *overrides: str, resume: bool = False) -> None:
    settings = load_config(config, overrides)
    folder = RunFolder(run)
    folder.claim(settings, resume=resume)
    fit(settings, folder, resume=resume)


def stop_after(monkeypatch: pytest.MonkeyPatch, num_saves: int) -> None:
    """Make the process die, as far as Lightning can tell, right after its n-th checkpoint."""
    save = AtomicCheckpointIO.save_checkpoint
    saves = []

    def save_and_die(self: Any, *arguments: Any, **keywords: Any) -> None:
        save(self, *arguments, **keywords)
        saves.append(1)
        if len(saves) == num_saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_die)


@pytest.fixture(scope="module")
def _one_thread() -> Any:
    torch.set_num_threads(1)


pytestmark = pytest.mark.usefixtures("_one_thread")


@pytest.mark.slow
def test_a_run_resumed_from_any_step_repeats_the_unbroken_one(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_step = ("trainer.checkpoint_every_steps=1",)
    train(tiny_config, tmp_path / "unbroken", *every_step)
    unbroken = read_losses(tmp_path / "unbroken")
    assert [row.step for row in unbroken] == list(range(9))
    assert [row.epoch for row in unbroken] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    weights = load_run(tmp_path / "unbroken").method.state_dict()
    for stop in range(1, 9):  # in the middle and at the end of epochs
        run = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning's way to exit
                train(tiny_config, run, *every_step)
        assert len(read_losses(run)) == stop
        train(tiny_config, run, *every_step, resume=True)
        assert read_losses(run) == unbroken
        resumed = load_run(run).method.state_dict()
        assert all(torch.equal(weights[name], resumed[name]) for name in weights)
