"""Two processes over gloo against one process with all rows: loss, gradients, and MoCo's queue."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gdt import Batch, Modality, named_plan
from models import MoCo, ModelOptions, build_method

NUM_SAMPLES = 5
SAMPLES_OF_FIRST_RANK = 3  # uneven on purpose


def outcome(name: str, rank: int | None) -> dict[str, torch.Tensor]:
    """Run forward and backward over the samples of one rank, or over all of them (None)."""
    torch.manual_seed(0)
    plan = named_plan(name)
    options = ModelOptions(
        method=name, image="resnet_small", hidden_dim=16, embedding_dim=8, queue_size=7
    )
    method = build_method(options, plan)
    method.eval()  # batch statistics would differ by rank: trainer.sync_batch_norm is for that
    method.training = True  # MoCo's own update and queue
    codes = plan.codes(torch.arange(NUM_SAMPLES))
    values = torch.randn(len(codes), 3, 32, 32)
    sample = codes[:, 0]
    rows = torch.ones_like(sample, dtype=torch.bool)
    if rank is not None:
        rows = (sample < SAMPLES_OF_FIRST_RANK) == (rank == 0)
    loss = method(Batch({"image": Modality(values[rows], codes[rows])}, epoch=0, step=0))
    loss.backward()
    gradient = next(method.towers.heads["image"].parameters()).grad
    assert gradient is not None
    found = {"loss": loss.detach(), "gradient": gradient}
    if isinstance(method, MoCo):
        found |= {"queue": method.queue, "queue_codes": method.queue_codes}
    return found


def one_rank(rank: int, folder: str, name: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(outcome(name, rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simclr", "moco"])
def test_the_mean_over_two_ranks_is_one_process(tmp_path: Path, name: str) -> None:
    expected = outcome(name, None)
    spawn(one_rank, (str(tmp_path), name), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for key in ("loss", "gradient"):
        mean = (ranks[0][key] + ranks[1][key]) / 2
        torch.testing.assert_close(mean, expected[key], rtol=1e-4, atol=1e-6)
    if name == "moco":
        for rank in ranks:
            torch.testing.assert_close(rank["queue"], expected["queue"])
            assert torch.equal(rank["queue_codes"], expected["queue_codes"])
