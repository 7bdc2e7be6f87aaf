"""Two processes over gloo against one process with all rows: loss, gradients, and MoCo's queue."""

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from gdt import Batch, View, named_plan
from models import METHODS, EncoderOptions, Labels, RunFacts, Setting, build_method
from models.methods import DINO, MAE, UDT, UVC, Colorization, MoCo
from tests.models.conftest import CLIPS, FRAMES, ROW_SHAPES

NUM_SAMPLES = 5
SAMPLES_OF_FIRST_RANK = 3  # uneven on purpose


#: Methods whose loss over two ranks is that of one process with all rows.
RANKED = (
    "simclr",
    "moco",
    "byol",
    "swav",
    "simsiam",
    "barlow_twins",
    "moco_v3",
    "dino",
    "mae",
    "pixpro",
    "crw",
    "colorization",
    "mast",
    "udt",
    "uvc",
    "tracked_patches",
    "classifier",
)
#: Of these, those that take clips.
OF_CLIPS = ("crw", "colorization", "mast", "udt", "uvc", "tracked_patches")
#: What else a method's options are set to.
CHANGES: dict[str, dict[str, Any]] = {
    "moco": {"queue_size": 7},
    "swav": {"num_prototypes": 6},
    "dino": {"num_outputs": 12, "frozen_epochs": 0},
    "mae": {"decoder_dim": 8, "decoder_depth": 1, "decoder_heads": 2},
    "crw": {"embedding_dim": 8, "edge_dropout": 0.0},
    "colorization": {"embedding_dim": 8, "num_clusters": 3},
    "mast": {"embedding_dim": 8, "radius": 2},
    "udt": {"embedding_dim": 8},
    "uvc": {"window": 2, "warm_up_epochs": 0, "cycle_weight": 0.1},
    "tracked_patches": {
        "embedding_dim": 8,
        "patch_size": 16,
        "hard_share": 1.0,
        "random_epochs": 0,
    },
}


def outcome(name: str, rank: int | None) -> dict[str, torch.Tensor]:
    """Run forward and backward over the samples of one rank, or over all of them (None)."""
    torch.manual_seed(0)
    plan = CLIPS if name in OF_CLIPS else named_plan("simclr")
    bare = name in ("mae", "classifier", *OF_CLIPS)
    sizes: dict[str, Any] = {} if bare else {"hidden_dim": 16, "embedding_dim": 8}
    facts = RunFacts(2 * NUM_SAMPLES, batch_size=NUM_SAMPLES, steps_per_epoch=2, num_steps=4)
    image = "vit_mini" if name == "mae" else "resnet_small"
    frames: dict[str, Any] = FRAMES if name in OF_CLIPS else {}
    setting = Setting(plan, EncoderOptions(image=image, **frames), facts, Labels.of("abcab"))
    method = build_method(
        METHODS[name].options_type(**sizes, **CHANGES.get(name, {})), setting
    ).double()
    method.eval()  # batch statistics would differ by rank: trainer.sync_batch_norm is for that
    method.training = True  # MoCo's own update and queue
    codes = plan.codes(torch.arange(NUM_SAMPLES))
    (modality,) = plan.modalities
    values = torch.randn(len(codes), *ROW_SHAPES[modality], dtype=torch.float64)
    sample = codes[:, 0]
    rows = torch.ones_like(sample, dtype=torch.bool)
    if rank is not None:
        rows = (sample < SAMPLES_OF_FIRST_RANK) == (rank == 0)
    boxes = 0.25 + torch.rand(len(codes), 4) / 4
    noise = torch.rand(len(codes), 16)  # of 4 × 4 patches: masks that do not depend on the rank
    if isinstance(method, MAE):
        method.draw_noise = lambda num_rows, num_patches: noise[rows]  # type: ignore[method-assign]
    if isinstance(method, UDT):
        later = torch.tensor([[1, 2], [2, 3], [1, 3], [1, 2], [2, 3]])
        order = torch.cat([torch.zeros(NUM_SAMPLES, 1, dtype=torch.int64), later], dim=1)
        method.draw_frames = lambda num_rows, num_frames: order[rows].T  # type: ignore[method-assign]
    if isinstance(method, UVC):
        method.draw_pairs = lambda values: (values[:, :, 0], values[:, :, 1])  # type: ignore[method-assign]
        method.draw_patch = lambda frames: frames[:, :, 4:20, 8:24]  # type: ignore[method-assign]
    if isinstance(method, Colorization):
        method.centroids.copy_(torch.tensor([[-1.0, -1.0], [1.0, 0.0], [0.0, 1.0]]))
    view = View(modality, values[rows], codes[rows], boxes[rows])
    loss = method(Batch((view,), 0, 0)).total
    loss.backward()
    gradients = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
    found = {"loss": loss.detach(), "gradient": torch.cat(gradients)}
    if isinstance(method, DINO):
        found["center"] = method.center
    if isinstance(method, MoCo):
        found |= {"queue": method.queue.rows, "queue_codes": method.queue.codes}
    return found


def one_rank(rank: int, folder: str) -> None:
    """What comes of every method on one rank, in one process: importing torch takes longest."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save({name: outcome(name, rank) for name in RANKED}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, torch.Tensor]]]:
    """By rank and method, what came of it."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(one_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("name", RANKED)
def test_the_mean_over_two_ranks_is_one_process(
    name: str, ranks: list[dict[str, dict[str, torch.Tensor]]]
) -> None:
    expected, found = outcome(name, None), [of_rank[name] for of_rank in ranks]
    for key in ("loss", "gradient"):
        mean = (found[0][key] + found[1][key]) / 2
        torch.testing.assert_close(mean, expected[key], rtol=1e-7, atol=1e-9)
    if name == "dino":
        assert all(torch.allclose(rank["center"], expected["center"]) for rank in found)
    if name == "moco":
        for rank in found:
            torch.testing.assert_close(rank["queue"], expected["queue"])
            assert torch.equal(rank["queue_codes"], expected["queue_codes"])
