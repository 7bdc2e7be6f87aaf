"""Two processes over gloo against one with all rows, for methods of pairs, text and clips."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gdt import Batch, View
from models import METHODS, RunFacts, Setting, build_method
from models.methods.avid import BankPairs
from models.methods.videomae import VideoMAE
from tests.models.conftest import (
    ENCODERS_OF,
    ROW_SHAPES,
    SMALL,
    SMALL_ENCODERS,
    dataset_of,
    plan_for,
    texts,
)

NAMES = ("clip", "siglip", "simcse", "avid", "cma", "selavi", "videomae", "coca")
NUM_SAMPLES = 8
SAMPLES_OF_FIRST_RANK = 5  # uneven on purpose


def outcome(name: str, rank: int | None) -> dict[str, torch.Tensor]:
    """Run forward and backward over the samples of one rank, or over all of them (None)."""
    torch.manual_seed(0)
    plan, facts = plan_for(name), RunFacts(NUM_SAMPLES, NUM_SAMPLES, 1, 4)
    options = METHODS[name].options_type(**SMALL[name])
    encoders = replace(SMALL_ENCODERS, **ENCODERS_OF.get(name, {}))
    method = build_method(options, Setting(plan, encoders, facts)).double().eval()
    method.training = True  # banks move, and noise is measured; batch statistics would differ
    if isinstance(method, BankPairs):
        method.draw = same_draw  # type: ignore[method-assign]
    if isinstance(method, VideoMAE):
        method.draw_noise = same_noise  # type: ignore[method-assign]
    images, sounds = (
        torch.randn(NUM_SAMPLES, *ROW_SHAPES[name], dtype=torch.float64)
        for name in ("image", "audio")
    )
    method.before_epoch(0, dataset_of(images, sounds=sounds))
    codes, views = plan.codes(torch.arange(NUM_SAMPLES)), []
    for number, modality in enumerate(plan.modalities):
        own = codes[codes[:, plan.names.index("modality")] == number]
        values = torch.randn(len(own), *ROW_SHAPES.get(modality, ()), dtype=torch.float64)
        if modality == "text":
            values = texts(len(own))
        rows = torch.ones(len(own), dtype=torch.bool)
        if rank is not None:
            rows = (own[:, 0] < SAMPLES_OF_FIRST_RANK) == (rank == 0)
        views.append(View(modality, values[rows], own[rows]))
    loss = method(Batch(tuple(views), 0, 0)).total
    loss.backward()
    gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
    found = {"loss": loss.detach(), "gradient": torch.cat(gradients)}
    return found | {f"buffer {key}": buffer for key, buffer in method.named_buffers()}


def same_draw(kept_out: torch.Tensor) -> torch.Tensor:
    """Negatives that do not depend on the rank: the samples behind those that are kept out."""
    return (kept_out.max(dim=1, keepdim=True).values + 1 + torch.arange(3)) % NUM_SAMPLES


def same_noise(num_rows: int, num_places: int) -> torch.Tensor:
    """Masks that do not depend on the rank."""
    return torch.linspace(0, 1, num_places).expand(num_rows, num_places)


def one_rank(rank: int, folder: str) -> None:
    """What comes of every method on one rank, in one process: importing torch takes longest."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({name: outcome(name, rank) for name in NAMES}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """By rank and method, what came of it."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(one_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow(seconds=15)
@pytest.mark.parametrize("name", NAMES)
def test_the_mean_over_two_ranks_is_one_process(name: str, ranks: list[dict[str, Any]]) -> None:
    expected = outcome(name, None)
    for key in ("loss", "gradient"):
        mean = (ranks[0][name][key] + ranks[1][name][key]) / 2
        torch.testing.assert_close(mean, expected[key], rtol=1e-7, atol=1e-9)
    for key in (key for key in expected if key.startswith("buffer")):
        for rank in ranks:
            torch.testing.assert_close(rank[name][key], expected[key])
