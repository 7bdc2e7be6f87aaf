"""DetCo equals loops over its twelve terms; stages are the encoder's, queues their own."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gdt import Batch
from models.encoders import ENCODERS
from models.methods.detco import DetCo, DetCoOptions
from models.parts import jigsaw
from tests.models.conftest import FOUR_VIEWS, random_batch

PLAN = FOUR_VIEWS
PATCHED = (2, 3)
WEIGHTS = (0.1, 0.4, 0.7, 1.0)


def rows_of(batch: Batch, view: int) -> Tensor:
    (found,) = batch.where(PLAN.names.index("augmentation"), view).views
    return found.values


def stages_by_hand(encoder: Any, values: Tensor) -> list[Tensor]:
    """Means over places after each block behind the stem of the small network."""
    stem, *blocks = encoder.trunk
    x, found = stem(values), []
    for block in blocks:
        x = block(x)
        found.append(x.mean(dim=(2, 3)))
    return found


def test_the_loss_is_twelve_terms_of_info_nce(
    build_small: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    order = torch.tensor([[2, 0, 3, 1]])
    monkeypatch.setattr(jigsaw, "draw_orders", lambda rows, pieces: order.expand(rows, -1))
    method: DetCo = build_small("detco", PLAN).double().eval()
    batch = random_batch(PLAN, [3, 5, 8], PATCHED)
    batch = Batch(tuple(replace(v, values=v.values.double()) for v in batch.views), 0, 0)
    losses = method(batch)

    def embedded(towers: Any, heads: Any, view: int) -> list[Tensor]:
        values, encoder = rows_of(batch, view), towers.encoders["image"]
        if view not in PATCHED:
            stages = stages_by_hand(encoder, values)
            return [F.normalize(h(s), dim=1) for h, s in zip(heads.of_whole, stages, strict=True)]
        of_pieces = [stages_by_hand(encoder, values[:, piece]) for piece in order[0].tolist()]
        return [
            F.normalize(head(torch.cat([stages[level] for stages in of_pieces], dim=1)), dim=1)
            for level, head in enumerate(heads.of_pieces)
        ]

    ours = method.towers, method.heads
    theirs = method.momentum.network, method.momentum_heads.network
    queries, keys = (
        [embedded(*of, view) for view in views] for of, views in ((ours, (0, 2)), (theirs, (1, 3)))
    )
    total = torch.zeros(3, dtype=torch.float64)
    queues = method.queues, method.piece_queues
    for level, weight in enumerate(WEIGHTS):
        for term, (of_query, of_key) in enumerate(((0, 0), (1, 1), (1, 0))):
            q, k = queries[of_query][level], keys[of_key][level]
            negatives: Any = queues[of_key][level]
            logits = torch.cat([(q * k).sum(1, keepdim=True), q @ negatives.rows.T], dim=1) / 0.2
            total[term] += weight * F.cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(losses.total, total.sum(), rtol=1e-9, atol=1e-9)
    found = torch.stack([losses.parts[n] for n in ("whole", "pieces", "pieces_to_whole")])
    torch.testing.assert_close(found, total, rtol=1e-9, atol=1e-9)


def test_queues_take_the_keys_of_their_stage(build_small: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    method: DetCo = build_small("detco", PLAN)
    before = [queue.rows.clone() for queue in (*method.queues, *method.piece_queues)]
    losses = method(random_batch(PLAN, [3, 5, 8], PATCHED))
    losses.total.backward()
    for queue, old in zip((*method.queues, *method.piece_queues), before, strict=True):
        assert queue.pointer == 3
        assert queue.codes[:3, 0].tolist() == [3, 5, 8]
        assert torch.equal(queue.rows[3:], old[3:])
        assert not torch.equal(queue.rows[:3], old[:3])
    trained = [p for p in method.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)
    assert all(p.grad is None for p in method.momentum.parameters())
    values = torch.randn(2, 3, 32, 32)
    assert method.eval().embed("image", values).shape == (2, 16)
    assert method.features("image", values).shape == (2, 256)


@pytest.mark.parametrize(
    ("modality", "name", "shape", "channels"),
    [
        ("image", "resnet18", (1, 3, 32, 32), [64, 128, 256, 512]),
        ("image", "resnet50", (1, 3, 32, 32), [256, 512, 1024, 2048]),
        ("video", "r2plus1d_small", (1, 3, 4, 32, 32), [32, 64, 128, 256]),
        ("audio", "resnet9_small", (1, 1, 40, 33), [32, 64, 128, 256]),
    ],
)
def test_stages_are_the_last_layers_of_a_resnet(
    modality: str, name: str, shape: tuple[int, ...], channels: list[int]
) -> None:
    encoder = ENCODERS[modality].build(name).eval()
    values = torch.randn(shape)
    stages = encoder.stages(values)
    assert encoder.stage_channels() == channels == [stage.shape[1] for stage in stages]
    torch.testing.assert_close(stages[-1], encoder.maps(values))


def test_what_cannot_be_meant_is_refused(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"stage_weights = \(1.0, 0.0\), must be above 0, one for"):
        DetCoOptions(stage_weights=(1.0, 0.0))
    with pytest.raises(ValueError, match=r"are of 5 stages, and the image encoder has 4: give"):
        build_small("detco", PLAN, stage_weights=(1.0,) * 5)
    with pytest.raises(ValueError, match="this one has none: take a ResNet"):
        build_small("detco", PLAN, image="vit_mini")
    with pytest.raises(
        ValueError, match=r"method.num_pieces = 4 pieces of image, and the rows have"
    ):
        build_small("detco", PLAN)(random_batch(PLAN, [0, 1]))
