"""What tests of several rooms use."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.films import Film, make_film

# before torch is first imported: workers share few cores, and OpenMP's threads spin as they wait
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """`film("name.mp4", seconds=2, …)` encodes a Film into the test's folder."""

    def make(name: str, **what: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return make_film(path, Film(**what))

    return make


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file of the longest test: begun last, it would leave the other worker idle."""
    longest: dict[Path, float] = {}
    for item in items:
        marker = item.get_closest_marker("slow")
        seconds = marker.kwargs.get("seconds", 5) if marker else 0
        longest[item.path] = max(seconds, longest.get(item.path, 0))
    items.sort(key=lambda item: -longest[item.path])  # stable: within files nothing moves
