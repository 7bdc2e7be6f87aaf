"""Two processes that share a batch compute what one computes."""

import multiprocessing
from pathlib import Path

import pytest
import torch

from tests.tools.training.ranks import pretrain_row_by_row
from tools.commands.pretrain import is_first_rank
from tools.runs.checkpoints import load_checkpoint
from tools.runs.losses import read_losses
from tools.runs.run_folder import RunFolder

SETTINGS = ["trainer.max_steps=6", "model.dropout=0.0", "optimizer.scale_by_ranks=false"]


@pytest.mark.slow
def test_two_ranks_train_as_one(tiny_config: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tools.training.ranks"])
    ranks = {"one": [], "two": ["trainer.devices=2", "trainer.strategy=ddp_fork"]}
    for name, overrides in ranks.items():
        process = context.Process(
            target=pretrain_row_by_row, args=(tiny_config, SETTINGS + overrides, tmp_path / name)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
    one, two = (read_losses(tmp_path / name) for name in ranks)
    assert [row.step for row in one] == [row.step for row in two] == list(range(6))
    assert [row.loss for row in two] == pytest.approx([row.loss for row in one], rel=1e-5)
    assert len({row.loss for row in one}) == 6
    weights_of_one, weights_of_two = (
        load_checkpoint(RunFolder(tmp_path / name).checkpoint)["state_dict"] for name in ranks
    )
    for name, weight in weights_of_one.items():
        torch.testing.assert_close(weights_of_two[name], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_one_process_writes(environment: dict[str, str], expected: bool) -> None:
    assert is_first_rank(environment) is expected
