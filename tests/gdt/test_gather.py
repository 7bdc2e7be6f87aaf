"""Several processes over gloo against one process with all rows, dense and in tiles."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.multiprocessing.spawn import spawn

from gdt import LossOptions, named_plan, plan_loss

OPTIONS = (LossOptions(), LossOptions(reduction="row", other_positives="out"))


def all_rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = named_plan("i_shift").codes(torch.arange(5))
    return torch.randn(len(codes), 6, generator=generator, dtype=torch.float64), codes


def one_rank(rank: int, folder: str, rows: list[int], tiled: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=len(rows)
    )
    features, codes = (tensor.split(rows)[rank] for tensor in all_rows())
    found = []
    for options in OPTIONS:
        own = features.clone().requires_grad_()
        unit = F.normalize(own, dim=1)
        loss = plan_loss(named_plan("i_shift"), unit, codes, 0.1, options, tiled=tiled)
        loss.backward()
        found.append({"loss": loss.detach(), "grad": own.grad})
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize(
    ("rows", "tiled"),
    [([12, 8], False), ([20, 0], True), ([3, 9, 1, 7], True)],
    ids=lambda value: str(value).replace(" ", ""),
)
def test_ranks_give_the_loss_and_gradient_of_one(
    tmp_path: Path, rows: list[int], tiled: bool
) -> None:
    spawn(one_rank, (str(tmp_path), rows, tiled), nprocs=len(rows))
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(len(rows))]
    for number, options in enumerate(OPTIONS):
        features, codes = all_rows()
        features.requires_grad_()
        unit = F.normalize(features, dim=1)
        loss = plan_loss(named_plan("i_shift"), unit, codes, 0.1, options)
        loss.backward()
        found = [rank[number] for rank in ranks]
        mean_loss = torch.stack([rank["loss"] for rank in found]).mean()
        # Data-parallel training averages the ranks' gradients; here each row lives on one rank.
        gradient = torch.cat([rank["grad"] for rank in found]) / len(rows)
        torch.testing.assert_close(mean_loss, loss.detach(), atol=1e-12, rtol=0)
        torch.testing.assert_close(gradient, features.grad, atol=1e-12, rtol=0)
