"""What tests of several rooms use."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.films import Film, make_film


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """`film("name.mp4", seconds=2, …)` encodes a Film into the test's folder."""

    def make(name: str, **what: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return make_film(path, Film(**what))

    return make
