"""LARS in its four forms equals the numbers of the papers' own code, tensor by tensor."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from tools.training.lars import Lars

CASES = {
    case["name"]: case
    for case in json.loads((Path(__file__).parent / "lars.json").read_text())["cases"]
}


def leaves(numbers: dict[str, Any], path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors of nested tables, under their paths."""
    for key, value in numbers.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}/")
        else:
            yield path + key, torch.tensor(value, dtype=torch.float64)


def steps_of(case: dict[str, Any], form: str) -> Iterator[dict[str, Parameter]]:
    """The parameters after each step of a case."""
    inputs, params = case["inputs"], case["params"]
    weights = {name: Parameter(value) for name, value in leaves(inputs["init"])}
    excluded = [p for p in weights.values() if p.ndim == 1]
    adapted = [p for p in weights.values() if p.ndim > 1]
    optimizer = Lars(
        [{"params": adapted}, {"params": excluded, "weight_decay": 0.0, "excluded": True}],
        lr=1.0,
        momentum=params["momentum"],
        weight_decay=params["weight_decay"],
        form=form,
    )
    if form == "larc":  # everything is decayed and adapted
        optimizer.param_groups[1]["weight_decay"] = params["weight_decay"]
    for step in inputs["steps"]:
        for group in optimizer.param_groups:
            group["lr"] = step["lr"]
        for name, gradient in leaves(step["grads"]):
            weights[name].grad = gradient
        optimizer.step()
        yield weights


def assert_equal(got: dict[str, Parameter], expected: dict[str, Any]) -> None:
    for name, value in leaves(expected):
        torch.testing.assert_close(got[name].detach(), value, rtol=0, atol=1e-9, msg=name)


def test_simclrs_form_keeps_the_rate_in_its_buffer() -> None:
    case = CASES["lars_classicTrue_nesterovFalse"]
    for weights, wanted in zip(steps_of(case, "simclr"), case["outputs"]["steps"], strict=True):
        assert_equal(weights, wanted["params"])


@pytest.mark.parametrize("key", ["mocov3_lars_final_params", "barlowtwins_lars_final_params"])
def test_moco_v3s_and_barlow_twins_forms_are_one(key: str) -> None:
    case = CASES["lars_classicTrue_nesterovFalse"]
    *_, last = steps_of(case, "moco_v3")
    assert_equal(last, case["outputs"][key])


def test_byols_form_is_that_of_moco_v3() -> None:
    case = CASES["lars_byol"]
    for weights, wanted in zip(steps_of(case, "moco_v3"), case["outputs"]["steps"], strict=True):
        assert_equal(weights, wanted["params"])


@pytest.mark.parametrize(("name", "form"), [("larc_swav", "larc"), ("lars_pixpro", "pixpro")])
def test_larc_and_pixpros_form(name: str, form: str) -> None:
    outputs = CASES[name]["outputs"]["params_after_each_step"]
    case = CASES["larc_swav"] | {"params": CASES[name]["params"]}
    for weights, wanted in zip(steps_of(case, form), outputs, strict=True):
        assert_equal(weights, wanted)
