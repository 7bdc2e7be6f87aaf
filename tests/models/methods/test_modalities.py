"""Methods of images take clips and spectrograms: the same numbers give the same loss."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gdt import Batch, Plan, View
from models import METHODS, EncoderOptions, RunFacts, Setting, build_method
from models.encoders import Encoder
from tests.models.conftest import SMALL

#: How 48 numbers of a row lie, by modality.
SHAPES = {"image": (3, 4, 4), "video": (3, 2, 2, 4), "audio": (1, 6, 8)}
#: Methods of images that ask for one vector a row, with the number of views that they take.
NAMES = {
    "simclr": 2,
    "moco": 2,
    "byol": 2,
    "swav": 3,
    "dino": 3,
    "simsiam": 2,
    "barlow_twins": 2,
    "moco_v3": 2,
    "pcl": 2,
    "deepcluster": 1,
    "deepcluster_v2": 2,
    "instdisc": 1,
    "sela": 1,
    "block_contrast": 3,
}
SAMPLES = [3, 0, 7, 5]


def plan_of(modality: str, views: int) -> Plan:
    tables: dict[str, dict[str, Any]] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": [modality]},
    }
    if views > 1:
        tables["augmentation"] = {"relation": "invariant", "draws": views}
    return Plan.from_tables(tables)


def one_step(name: str, modality: str) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a step over rows of a modality, after the start of an epoch."""
    torch.manual_seed(0)
    plan, shape = plan_of(modality, NAMES[name]), SHAPES[modality]
    facts = RunFacts(8, batch_size=4, steps_per_epoch=2, num_steps=8)
    changes = {"frozen_epochs": 0} if name == "dino" else {}
    changes |= {"frozen_prototype_steps": 0} if name == "swav" else {}
    changes |= {"queue_size": 6} if name in ("moco", "pcl") else {}
    options = METHODS[name].options_type(**{**SMALL[name], **changes})
    method = build_method(options, Setting(plan, EncoderOptions(), facts)).double()
    every = torch.randn(8, 48, dtype=torch.float64)

    def embed_dataset(embed: Any, *, training: bool = False) -> dict[str, Tensor]:
        with torch.no_grad():
            return {modality: embed(modality, every.unflatten(1, shape))}

    method.before_epoch(0, embed_dataset)
    codes = plan.codes(torch.tensor(SAMPLES))
    values = torch.randn(len(codes), 48, dtype=torch.float64).unflatten(1, shape)
    loss = method(Batch((View(modality, values, codes),), 0, 0)).total
    loss.backward()
    return loss, [p.grad for p in method.parameters() if p.grad is not None]


@pytest.mark.parametrize("name", list(NAMES))
def test_a_method_does_not_know_what_a_row_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def flat(options: EncoderOptions, modality: str) -> Encoder:
        trunk = nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.Tanh(), nn.Unflatten(1, (24, 1)))
        sizes = ("B", *(f"S{axis}" for axis in range(len(SHAPES[modality]))))
        return Encoder(trunk, nn.Identity(), 24, sizes)

    monkeypatch.setattr(EncoderOptions, "build", flat)
    loss, gradients = one_step(name, "image")
    assert any(gradient.abs().sum() > 0 for gradient in gradients)
    for modality in ("video", "audio"):
        other, theirs = one_step(name, modality)
        assert torch.equal(other, loss)
        assert all(map(torch.equal, theirs, gradients))


@pytest.mark.parametrize("name", ["simclr", "moco", "byol", "swav", "dino"])
def test_clips_and_sound_train_together(
    name: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    tables = {"modality": {"relation": "invariant", "values": ["video", "audio"]}}
    plan = Plan.from_tables({"name": "simclr", **tables})
    changes = {"dino": {"frozen_epochs": 0}, "swav": {"frozen_prototype_steps": 0}}
    method = build_small(name, plan, **changes.get(name, {}))
    losses = method(make_batch(plan, [0, 1, 2]))
    losses.total.backward()
    for parameter_name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.abs().sum() > 0, parameter_name
