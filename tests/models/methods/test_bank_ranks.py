"""Two processes over gloo against one with all rows: loss, gradient, and every buffer that is kept.

What is drawn for each row differs by rank, and so is given here; what else differs is refused.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gdt import Batch
from models import METHODS, EncoderOptions, RunFacts, Setting, build_method
from models.parts import MemoryBank, jigsaw
from tests.models.conftest import (
    ENCODERS_OF,
    PATCHED,
    SMALL,
    dataset_of,
    plan_for,
    random_batch,
)

NAMES = [
    "instdisc",
    "cmc",
    "pcl",
    "deepcluster",
    "deepcluster_v2",
    "sela",
    "block_contrast",
    "pirl",
    "infomin",
    "detco",
]
NUM_SAMPLES = 10
SAMPLES_OF_FIRST_RANK = 6  # uneven on purpose
_SEEDED = torch.nn.modules.batchnorm._BatchNorm, torch.nn.Dropout  # what differs by rank


def outcome(name: str, rank: int | None) -> dict[str, Any]:
    """Run an epoch's begin, forward and backward over one rank's samples, or over all (None)."""
    torch.manual_seed(0)
    plan = plan_for(name)
    encoders = EncoderOptions(image="resnet_small", **ENCODERS_OF.get(name, {}))
    facts = RunFacts(NUM_SAMPLES, batch_size=NUM_SAMPLES, steps_per_epoch=1, num_steps=4)
    queue = {"queue_size": 9} if "queue_size" in SMALL[name] else {}  # at most the samples
    options = METHODS[name].options_type(**SMALL[name] | queue)
    method = build_method(options, Setting(plan, encoders, facts)).double()
    method.eval()  # batch statistics would differ by rank: trainer.sync_batch_norm is for that
    for module in method.modules():
        module.training = not isinstance(module, _SEEDED)
    images = torch.randn(NUM_SAMPLES, 3, 16, 16, dtype=torch.float64)
    method.before_epoch(0, dataset_of(images))
    views = []
    for view in random_batch(plan, range(NUM_SAMPLES), PATCHED.get(name, ())).views:
        of_first = view.codes[:, 0] < SAMPLES_OF_FIRST_RANK
        rows = torch.ones_like(of_first) if rank is None else of_first == (rank == 0)
        mine = view[rows]
        views.append(replace(mine, values=mine.values.double()))
    loss = method(Batch(tuple(views), 0, 0)).total
    loss.backward()
    gradient = next(method.towers.encoders.parameters()).grad
    assert gradient is not None
    return {"loss": loss.detach(), "gradient": gradient, "buffers": dict(method.named_buffers())}


def same_draw(bank: MemoryBank, num_rows: int, count: int) -> torch.Tensor:
    return (torch.arange(count) % len(bank)).expand(num_rows, count)


def same_order(num_rows: int, num_pieces: int) -> torch.Tensor:
    return torch.arange(num_pieces).flip(0).expand(num_rows, -1)


def one_rank(rank: int, folder: str) -> None:
    """What comes of every method on one rank, in one process: importing torch takes longest."""
    torch.set_num_threads(1)
    setattr(MemoryBank, "draw", same_draw)  # noqa: B010 - methods for the spawned process
    setattr(jigsaw, "draw_orders", same_order)  # noqa: B010
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({name: outcome(name, rank) for name in NAMES}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    """By rank and method, what came of it."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(one_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_two_ranks_is_one_process(
    name: str, ranks: list[dict[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBank, "draw", same_draw)
    monkeypatch.setattr(jigsaw, "draw_orders", same_order)
    expected, found = outcome(name, None), [of_rank[name] for of_rank in ranks]
    for key in ("loss", "gradient"):
        mean = (found[0][key] + found[1][key]) / 2
        torch.testing.assert_close(mean, expected[key], rtol=1e-7, atol=1e-9)
    for rank in found:
        for key, buffer in expected["buffers"].items():
            torch.testing.assert_close(rank["buffers"][key], buffer)
