"""Two processes over gloo against one with all rows: loss, gradient, and every buffer that is kept.

Drawn entries of a bank differ by rank, and so are given here; what else differs is refused.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gdt import Batch, View
from models import METHODS, EncoderOptions, RunFacts, Setting, build_method
from models.parts import MemoryBank
from tests.models.conftest import ENCODERS_OF, SMALL, dataset_of, plan_for

NAMES = ["instdisc", "cmc", "pcl", "deepcluster_v2", "sela", "block_contrast"]
NUM_SAMPLES = 10
SAMPLES_OF_FIRST_RANK = 6  # uneven on purpose


def outcome(name: str, rank: int | None) -> dict[str, Any]:
    """Run an epoch's begin, forward and backward over one rank's samples, or over all (None)."""
    torch.manual_seed(0)
    plan = plan_for(name)
    encoders = EncoderOptions(image="resnet_small", **ENCODERS_OF.get(name, {}))
    facts = RunFacts(NUM_SAMPLES, batch_size=NUM_SAMPLES, steps_per_epoch=1, num_steps=4)
    options = METHODS[name].options_type(**SMALL[name])
    method = build_method(options, Setting(plan, encoders, facts)).double()
    method.eval()  # batch statistics would differ by rank: trainer.sync_batch_norm is for that
    for module in method.modules():
        module.training = not isinstance(module, torch.nn.modules.batchnorm._BatchNorm)
    images = torch.randn(NUM_SAMPLES, 3, 16, 16, dtype=torch.float64)
    method.before_epoch(0, dataset_of(images))
    codes = plan.codes(torch.arange(NUM_SAMPLES))
    values = torch.randn(len(codes), 3, 16, 16, dtype=torch.float64)
    rows = torch.ones(len(codes), dtype=torch.bool)
    if rank is not None:
        rows = (codes[:, 0] < SAMPLES_OF_FIRST_RANK) == (rank == 0)
    loss = method(Batch((View("image", values[rows], codes[rows]),), 0, 0)).total
    loss.backward()
    gradient = next(method.towers.encoders.parameters()).grad
    assert gradient is not None
    return {"loss": loss.detach(), "gradient": gradient, "buffers": dict(method.named_buffers())}


def same_draw(bank: MemoryBank, num_rows: int, count: int) -> torch.Tensor:
    return (torch.arange(count) % len(bank)).expand(num_rows, count)


def one_rank(rank: int, folder: str, name: str) -> None:
    torch.set_num_threads(1)
    setattr(MemoryBank, "draw", same_draw)  # noqa: B010 - a method for the spawned process
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(outcome(name, rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_two_ranks_is_one_process(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBank, "draw", same_draw)
    expected = outcome(name, None)
    spawn(one_rank, (str(tmp_path), name), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for key in ("loss", "gradient"):
        mean = (ranks[0][key] + ranks[1][key]) / 2
        torch.testing.assert_close(mean, expected[key], rtol=1e-7, atol=1e-9)
    for rank in ranks:
        for key, buffer in expected["buffers"].items():
            torch.testing.assert_close(rank["buffers"][key], buffer)
