"""Numbers that the methods' own code gave in float64; each file names its source."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_FOLDER = Path(__file__).parent / "golden"


def golden(method: str, case: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Inputs (with the case's parameters) and outputs of one case."""
    cases = json.loads((_FOLDER / f"{method}.json").read_text())["cases"]
    (found,) = [entry for entry in cases if entry["name"] == case]
    return found["params"] | found["inputs"], found["outputs"]


def golden_file(name: str) -> dict[str, Any]:
    """The whole of a file, where its cases differ in what they hold."""
    content: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text())
    return content


def tensor(numbers: Any) -> Tensor:
    """Numbers as float64."""
    return torch.tensor(numbers, dtype=torch.float64)


def close(got: Tensor, expected: Any, tolerance: float = 1e-9) -> None:
    """Equal to golden numbers, which have 13 significant digits."""
    torch.testing.assert_close(got.detach().double(), tensor(expected), rtol=0, atol=tolerance)
