"""Two processes over gloo against one process with all rows."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.multiprocessing.spawn import spawn

from gdt import named_plan, plan_loss

ROWS_OF_FIRST_RANK = 12  # of 20: uneven on purpose


def all_rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = named_plan("v_shift").codes(torch.arange(5))
    return torch.randn(len(codes), 6, generator=generator, dtype=torch.float64), codes


def one_rank(rank: int, folder: str, split: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    features, codes = all_rows()
    mine = slice(None, split) if rank == 0 else slice(split, None)
    own = features[mine].clone().requires_grad_()
    loss = plan_loss(named_plan("v_shift"), F.normalize(own, dim=1), codes[mine], 0.1)
    loss.backward()
    torch.save({"loss": loss.detach(), "grad": own.grad}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("split", [ROWS_OF_FIRST_RANK, 20])
def test_two_ranks_give_the_loss_and_gradient_of_one(tmp_path: Path, split: int) -> None:
    features, codes = all_rows()
    features.requires_grad_()
    loss = plan_loss(named_plan("v_shift"), F.normalize(features, dim=1), codes, 0.1)
    loss.backward()
    spawn(one_rank, (str(tmp_path), split), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    mean_loss = (ranks[0]["loss"] + ranks[1]["loss"]) / 2
    # Data-parallel training averages the ranks' gradients; here each row lives on one rank.
    gradient = torch.cat([ranks[0]["grad"], ranks[1]["grad"]]) / 2
    torch.testing.assert_close(mean_loss, loss.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(gradient, features.grad, atol=1e-12, rtol=0)
