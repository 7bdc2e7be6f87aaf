"""The classifier: its loss by hand, what learns and what stays, what it refuses."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gdt import Batch, Plan
from models import Labels, RunFacts, Setting, build_method
from models.methods.classifier import Classifier, ClassifierOptions
from tests.models.conftest import SMALL_ENCODERS

BOTH = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["video", "audio"]},
    }
)
FACTS = RunFacts(6, batch_size=4, steps_per_epoch=1, num_steps=4)
LABELS = Labels.of(["cat", "dog", "cat", "ant", "dog", "cat"])


def build(plan: Plan = BOTH, labels: Labels | None = LABELS, **options: object) -> Classifier:
    torch.manual_seed(0)
    setting = Setting(plan, SMALL_ENCODERS, FACTS, labels)
    method = build_method(ClassifierOptions(**options), setting)  # type: ignore[arg-type]
    assert isinstance(method, Classifier)
    return method


def test_classes_are_sorted_and_counted() -> None:
    assert Labels({"ant": 1, "cat": 3, "dog": 2}, [1, 2, 1, 0, 2, 1]) == LABELS
    assert build().classes == ("ant", "cat", "dog")


def test_the_loss_is_the_cross_entropy_of_each_samples_own_label(
    make_batch: Callable[..., Batch],
) -> None:
    method = build().eval()
    batch = make_batch(BOTH, [3, 0, 4, 1])
    losses = method(batch)
    entropies = []
    for modality in ("video", "audio"):
        linear = method.towers.heads[modality].get_submodule("fc")
        features = method.features(modality, batch.view(modality).values)
        logits = F.linear(features, linear.weight, linear.bias)  # type: ignore[arg-type]
        wanted = torch.tensor([0, 1, 2, 2])  # ant, cat, dog, dog
        chosen = logits.exp().gather(1, wanted[:, None])[:, 0] / logits.exp().sum(1)
        entropies.append(-chosen.log().mean())
        right = (logits.argmax(1) == wanted).float().mean()
        assert losses.parts[f"{modality}_accuracy"] == pytest.approx(float(right))
    assert losses.total.item() == pytest.approx(torch.stack(entropies).mean().item(), rel=1e-5)


def test_all_logits_equal_cost_log_k(make_batch: Callable[..., Batch]) -> None:
    method = build().eval()
    for head in method.towers.heads.values():
        torch.nn.init.zeros_(head.get_submodule("fc").weight)  # type: ignore[arg-type]
    assert float(method(make_batch(BOTH, [0, 5])).total) == pytest.approx(math.log(3))


def test_heads_begin_orthogonal_and_without_bias() -> None:
    linear = build().towers.heads["audio"].get_submodule("fc")
    weight = linear.weight
    assert isinstance(weight, torch.Tensor)
    assert torch.allclose(weight @ weight.T, torch.eye(3), atol=1e-5)
    assert not linear.bias.any()  # type: ignore[operator]


def test_of_a_linear_classifier_the_encoder_stays_as_it_is(
    make_batch: Callable[..., Batch],
) -> None:
    method = build(trains="head")
    before = {name: value.clone() for name, value in method.state_dict().items()}
    groups = [g for g in method.parameter_groups() if any(p.requires_grad for p in g.parameters)]
    optimizer = torch.optim.SGD([p for g in groups for p in g.parameters], lr=0.1)
    method(make_batch(BOTH, [0, 1, 2, 3])).total.backward()
    optimizer.step()
    changed = {n for n, value in method.state_dict().items() if not torch.equal(value, before[n])}
    fc = {f"towers.heads.{m}.fc.{p}" for m in ("video", "audio") for p in ("weight", "bias")}
    assert changed == fc  # no weight of an encoder, and no batch statistics


def test_encoders_have_a_rate_of_their_own() -> None:
    heads, encoders = build(encoder_rate=0.1).parameter_groups()
    assert (heads.rate_scale, encoders.rate_scale) == (1.0, 0.1)
    assert len(heads.parameters) == 4


def test_retrieval_compares_features_and_not_logits(make_batch: Callable[..., Batch]) -> None:
    method = build().eval()
    values = make_batch(BOTH, [0, 1]).view("audio").values
    rows = method.embed("audio", values)
    assert torch.allclose(rows, F.normalize(method.features("audio", values)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_rate": 0.0}, r"method.encoder_rate = 0.0, must be more than 0"),
        ({"dropout": 1.0}, r"method.dropout = 1.0, must be at least 0"),
        ({"trains": "head", "encoder_rate": 0.1}, r'left out where trains = "head"'),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_labels_are_needed_and_more_than_one() -> None:
    with pytest.raises(ValueError, match=r"a classifier learns labels, and those of the samples"):
        build(labels=None)
    with pytest.raises(ValueError, match=r"all samples have the one label 'cat'"):
        build(labels=Labels.of(["cat"] * 6))


def test_without_samples_it_still_answers() -> None:
    """As after training: classes are known, and what the samples were is not."""
    method = build(labels=replace(LABELS, of_samples=()))
    state = build().state_dict()
    method.load_state_dict(state)
    assert method.towers.projection("audio", torch.zeros(1, 1, 40, 33)).shape == (1, 3)
