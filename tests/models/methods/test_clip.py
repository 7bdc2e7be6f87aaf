"""CLIP and SigLIP equal open_clip's numbers; both learn a temperature, over any two modalities."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from gdt import Batch
from models.methods.clip import CLIP, CLIPOptions
from models.methods.siglip import SigLIP, SigLIPOptions
from tests.models.conftest import PAIRS, plan_for
from tests.models.golden_numbers import close, golden, tensor


def losses_of(method: CLIP, given: dict[str, Any]) -> tuple[Any, ...]:
    """The mean loss of the given embeddings with the given scale, backward; and what has grads."""
    method.log_scale.data.copy_(tensor(given["log_scale"]))
    image, text = (tensor(given[name]).requires_grad_() for name in ("image", "text"))
    first, second = (torch.nn.functional.normalize(rows, dim=1) for rows in (image, text))
    loss = method.row_losses(first, second).mean()
    loss.backward()
    return loss, image.grad, text.grad, method.log_scale.grad


@pytest.mark.parametrize("case", ["clip", "clip_bias"])
def test_clip_equals_open_clip(case: str, build_small: Callable[..., Any]) -> None:
    """A bias, which open_clip may add, changes nothing."""
    given, expected = golden("clip", case)
    names = ("loss", "grad_image", "grad_text", "grad_log_scale")
    found = losses_of(build_small("clip", PAIRS).double(), given)
    for name, value in zip(names, found, strict=True):
        close(value, expected[name])
    assert expected["grad_bias"] is None or abs(expected["grad_bias"]) < 1e-12


@pytest.mark.parametrize("case", ["siglip", "siglip_other"])
def test_siglip_equals_open_clip(case: str, build_small: Callable[..., Any]) -> None:
    given, expected = golden("siglip", case)
    method = build_small("siglip", PAIRS, bias=float(given["bias"])).double()
    names = ("loss", "grad_image", "grad_text", "grad_log_scale")
    for name, value in zip(names, losses_of(method, given), strict=True):
        close(value, expected[name])
    assert method.bias.grad is not None
    close(method.bias.grad, expected["grad_bias"])


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_chunks_change_no_gradient(
    name: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small(name, PAIRS).double().eval()
    images, captions = make_batch(PAIRS, range(5)).views
    batch = Batch((replace(images, values=images.values.double()), captions), 0, 0)
    gradients = []
    for chunks in (1, 3):
        method.zero_grad()
        method.num_chunks = chunks
        method(batch).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in method.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_pairs_come_to_belong_together(
    name: str, make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small(name, PAIRS)
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    batch = make_batch(PAIRS, range(6))
    for step in range(20):
        losses = method(batch)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        method.after_step(step)
    start = 0.07 if name == "clip" else 0.1
    assert losses.parts["temperature"].item() != pytest.approx(start, abs=1e-4)
    embedded = [method.eval().embed(v.modality, v.values) for v in batch.views]
    assert (embedded[0] @ embedded[1].T).argmax(dim=1).tolist() == list(range(6))


def test_the_temperature_stays_in_its_bounds(build_small: Callable[..., Any]) -> None:
    method = build_small("clip", PAIRS)
    assert method.log_scale.item() == pytest.approx(math.log(1 / 0.07))
    for value, kept in ((9.0, math.log(100)), (-1.0, 0.0)):
        method.log_scale.data.fill_(value)
        method.after_step(0)
        assert method.log_scale.item() == pytest.approx(kept)
    assert CLIP.loss_of_equal_embeddings(PAIRS, 8) == pytest.approx(math.log(8))
    assert SigLIP.loss_of_equal_embeddings(PAIRS, 8) is None


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"CLIP compares two .* got image and 2 rows a sample"):
        build_small("clip", plan_for("moco"))
    with pytest.raises(ValueError, match=r"temperature = 0.001, must be from 0.01 to 1"):
        CLIPOptions(temperature=0.001)
    with pytest.raises(ValueError, match=r"bias = nan, must be a number"):
        SigLIPOptions(bias=math.nan)
