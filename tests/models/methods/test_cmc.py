"""CMC equals its authors' numbers over steps; views are groups of channels, or modalities."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gdt import Batch, named_plan
from models import EncoderOptions, RunFacts, Setting, build_method
from models.methods.cmc import CMC, CMCOptions
from tests.models.conftest import ONE_VIEW
from tests.models.golden_numbers import close, golden, tensor


def step_of(method: CMC, views: list[Tensor], samples: list[int], drawn: Any) -> Tensor:
    """The loss of a step whose heads give these views [B, D], and whose negatives are given."""
    given = views, torch.tensor(samples)
    method.embed_views = lambda batch: given  # type: ignore[method-assign]
    method._bank(0).draw = lambda num_rows, count: drawn  # type: ignore[method-assign]
    loss: Tensor = method(Batch((), 0, 0)).total
    return loss


@pytest.mark.parametrize("case", ["nce", "softmax"])
def test_losses_gradients_and_banks_over_steps_equal_the_authors(
    case: str, build_small: Callable[..., Any]
) -> None:
    given, expected = golden("cmc", case)
    method = build_small(
        "cmc",
        ONE_VIEW,
        num_samples=given["n"],
        embedding_dim=len(given["memory_l0"][0]),
        num_negatives=given["K"],
        temperature=given["T"],
        bank_momentum=given["momentum"],
        objective=case,
    ).double()
    for bank, rows in zip(method.banks, ("memory_l0", "memory_ab0"), strict=True):
        bank.rows.copy_(tensor(given[rows]))
    for step, wanted in zip(given["steps"], expected["steps"], strict=True):
        views = [tensor(step[name]).requires_grad_() for name in ("l", "ab")]
        drawn = torch.tensor(step["idx_with_positive_first"])[:, 1:]
        loss = step_of(method, views, step["y"], drawn)
        close(loss, wanted["loss"])
        loss.backward()
        for view, name in zip(views, ("grad_l", "grad_ab"), strict=True):
            assert view.grad is not None
            close(view.grad, wanted[name])
        if case == "nce":
            found = [float(contrast.mean_exp) * given["n"] for contrast in method.contrasts]
            assert found == pytest.approx([wanted["Z_l"], wanted["Z_ab"]], rel=1e-11)
    for bank, rows in zip(method.banks, ("memory_l_final", "memory_ab_final"), strict=True):
        close(bank.rows, expected[rows])


def test_groups_of_channels_have_encoders_of_their_own(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("cmc", ONE_VIEW)
    batch = make_batch(ONE_VIEW, [0, 1, 2])
    values = batch.view("image").values
    light = method.eval().features("image", values)
    changed = values.clone()
    changed[:, 1:] += 1
    assert light.shape == (3, 512)  # both encoders' features, behind one another
    same = (method.features("image", changed) == light).all(dim=0)
    assert same[:256].all()
    assert not same[256:].all()
    method.train()(batch).total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_modalities_are_views(make_batch: Callable[..., Batch]) -> None:
    torch.manual_seed(0)
    plan = named_plan("cross_modal_baseline")
    encoders = EncoderOptions(video="r2plus1d_small", audio="resnet9_small")
    facts = RunFacts(8, batch_size=2, steps_per_epoch=4, num_steps=4)
    options = CMCOptions(embedding_dim=8, num_negatives=4)
    method = build_method(options, Setting(plan, encoders, facts))
    losses = method(make_batch(plan, [0, 1]))
    assert set(losses.parts) == {"view0_in_bank1", "view1_in_bank0"}
    torch.testing.assert_close(losses.total, sum(losses.parts.values()))


def test_a_single_view_is_refused() -> None:
    facts = RunFacts(8, batch_size=2, steps_per_epoch=4, num_steps=4)
    setting = Setting(ONE_VIEW, EncoderOptions(image="resnet_small"), facts)
    with pytest.raises(ValueError, match=r"there is one: set encoders.channel_groups = \[1, 2\]"):
        build_method(CMCOptions(), setting)
    with pytest.raises(ValueError, match=r"channel_groups = \[1, 1\], must be .* sum to the 3"):
        EncoderOptions(channel_groups=(1, 1))
    with pytest.raises(ValueError, match=r"begin with a convolution of the picture"):
        EncoderOptions(image="vit_mini", channel_groups=(1, 2)).build("image")
