"""Two processes over gloo against one with all rows, for methods of pairs, text, sound and clips.

What is drawn depends here on the row alone: CPC and C-SWM draw others out of the rank's own rows.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gdt import Batch, View
from models import METHODS, RunFacts, Setting, build_method
from models.methods import CPC, CSWM, TimeCycle, VideoMAE
from models.methods.avid import BankPairs
from models.methods.cpc import Negatives
from models.methods.timecycle import theta_of
from tests.models.conftest import (
    ENCODERS_OF,
    ROW_SHAPES,
    SHAPES_OF,
    SMALL,
    SMALL_ENCODERS,
    dataset_of,
    plan_for,
    texts,
)

NAMES = (
    "clip",
    "siglip",
    "simcse",
    "avid",
    "cma",
    "selavi",
    "videomae",
    "coca",
    "cpc",
    "cswm",
    "timecycle",
)
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
    if isinstance(method, CSWM):
        method.draw_order = order_of_clips  # type: ignore[method-assign]
    if isinstance(method, TimeCycle):
        method.draw_patches = patches_by_motion  # type: ignore[method-assign]
    if isinstance(method, CPC):
        method.draw_negatives = negatives_of_rows  # type: ignore[method-assign]
    shapes = ROW_SHAPES | SHAPES_OF.get(name, {})
    images, sounds = (
        torch.randn(NUM_SAMPLES, *shapes[modality], dtype=torch.float64)
        for modality in ("image", "audio")
    )
    method.before_epoch(0, dataset_of(images, sounds=sounds))
    codes, views = plan.codes(torch.arange(NUM_SAMPLES)), []
    for number, modality in enumerate(plan.modalities):
        own = codes[codes[:, plan.names.index("modality")] == number]
        values = torch.randn(len(own), *shapes.get(modality, ()), dtype=torch.float64)
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


def order_of_clips(count: int) -> torch.Tensor:
    """Other transitions of the same clip, of the three that each has."""
    return torch.arange(count).view(-1, 3).roll(1, dims=1).flatten()


def patches_by_motion(motion: torch.Tensor) -> torch.Tensor:
    """Where patches are cut out, by what moves in the row itself."""
    return theta_of(motion.flatten(1)[:, :3].sin() / 2)


def negatives_of_rows(num_rows: int, length: int) -> Negatives:
    """Two other moments of the same row, the third step being the last that is foretold."""
    shape = (num_rows, 2, length - 3)
    rows = torch.arange(num_rows)[:, None, None].expand(shape)
    times = (torch.arange(shape[2]) + torch.tensor([[1], [2]])) % length
    return Negatives(rows, times.expand(shape))


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
