"""CPC equals its authors' numbers; the context sees nothing of what it predicts."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch, named_plan
from models.methods.cpc import CPCOptions, Negatives, draw_negatives, step_losses
from tests.models.conftest import SHAPES_OF, SOUNDS
from tests.models.golden_numbers import close, golden, tensor

WAVES = SHAPES_OF["cpc"]


@pytest.mark.parametrize("case", ["forward", "reverse"])
def test_losses_and_gradients_equal_the_authors(case: str) -> None:
    given, expected = golden("cpc", case)
    z, c, w = (tensor(given[name]).requires_grad_() for name in "zcW")
    rows, times = (torch.tensor(given[f"negative_{name}_index"]) for name in ("batch", "time"))
    moments, context = (z.flip(1), c.flip(1)) if case == "reverse" else (z, c)
    past = context[:, : z.shape[1] - len(w)]
    predicted = torch.einsum("btc,kdc->kbtd", past, w)
    found = step_losses(predicted, moments, Negatives(rows, times))
    close(found.losses.mean(dim=1), expected["loss_per_step"])
    close(found.accuracies, expected["accuracy_per_step"], tolerance=1e-7)  # float32
    total = found.losses.sum(dim=0).mean()
    close(total, expected["total_sum"])
    total.backward()
    for values, name in ((z, "grad_z"), (c, "grad_c"), (w, "grad_W")):
        assert values.grad is not None
        close(values.grad, expected[name])


def test_negatives_are_drawn_as_the_authors_draw_them() -> None:
    """Of any row, at any time but the moment's own; golden times follow from golden offsets."""
    given, _ = golden("cpc", "forward")
    times = torch.tensor(given["negative_time_index"])
    offsets = torch.tensor(given["negative_time_offset_drawn"])
    assert torch.equal(times, (torch.arange(times.shape[2]) + offsets) % 7)
    torch.manual_seed(0)
    options = CPCOptions(num_steps=4, num_negatives=500)
    drawn = draw_negatives(3, 10, options)
    assert drawn.rows.shape == drawn.times.shape == (3, 500, 6)
    for moment in range(6):
        assert set(drawn.times[:, :, moment].flatten().tolist()) == set(range(10)) - {moment}
    assert drawn.rows.unique().tolist() == [0, 1, 2]


@pytest.mark.parametrize("context", ["gru", "lstm", "transformer"])
@pytest.mark.parametrize("predictors", ["linear", "transformer"])
def test_a_prediction_sees_no_later_moment(
    context: str, predictors: str, build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("cpc", SOUNDS, context=context, predictors=predictors).double().eval()
    moments = torch.randn(2, 12, 64, dtype=torch.float64, requires_grad=True)
    predicted = method.predictors[0](method.context(moments))[:, 5]
    (gradient,) = torch.autograd.grad(predicted.sum(), moments)
    assert gradient[:, :6].abs().sum(dim=(0, 2)).min() > 0
    assert not gradient[:, 6:].any()


def test_a_row_heard_backwards_predicts_what_was_before(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    forwards = build_small("cpc", SOUNDS).eval()
    backwards = build_small("cpc", SOUNDS, reverse=True).eval()
    backwards.load_state_dict(forwards.state_dict())
    values = make_batch(SOUNDS, range(2), shapes=WAVES).view("audio").values
    moments, context = forwards.moments("audio", values)
    torch.testing.assert_close(backwards.moments("audio", values)[0], moments.flip(1))
    assert not torch.allclose(backwards.features("audio", values), context.mean(dim=1))


def test_what_comes_next_is_learned(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    """Tones that glide: the next moment is told from others far better than at first."""
    torch.manual_seed(0)
    method = build_small("cpc", SOUNDS, num_steps=2, num_negatives=8)
    batch = make_batch(SOUNDS, range(4), shapes=WAVES)
    (view,) = batch.views
    time = torch.arange(view.values.shape[2]) / 16_000
    rates = torch.tensor([300.0, 500.0, 800.0, 1200.0])[:, None]
    glides = torch.sin(2 * torch.pi * (rates * time + 2000 * time.square()))[:, None]
    batch = Batch((type(view)("audio", glides, view.codes),), 0, 0)
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    losses, accuracies = [], []
    for _ in range(40):
        found = method(batch)
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
        losses.append(found.total.item())
        accuracies.append(found.parts["accuracy"].item())
    assert losses[-1] < 0.85 * losses[0]
    assert sum(accuracies[-5:]) / 5 > 2 * (1 / 9)  # twice chance
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    features = method.eval().features("audio", glides)
    torch.testing.assert_close(
        method.embed("audio", glides), torch.nn.functional.normalize(features)
    )


def test_refusals(make_batch: Callable[..., Batch], build_small: Callable[..., Any]) -> None:
    short = make_batch(SOUNDS, range(2), shapes={"audio": (1, 1600)})
    method = build_small("cpc", SOUNDS, num_steps=10)
    with pytest.raises(ValueError, match=r"num_steps = 10, and a row has 10 moments of 160 audio"):
        method(short)
    with pytest.raises(ValueError, match=r'needs vectors along time: encoders.image = "resnet_sm'):
        build_small("cpc", named_plan("simclr"))
    with pytest.raises(ValueError, match=r"context_dim = 30, must be a multiple of 8 heads"):
        build_small("cpc", SOUNDS, context="transformer", context_dim=30)
    with pytest.raises(ValueError, match=r"num_steps = 0, must be a count"):
        CPCOptions(num_steps=0)
