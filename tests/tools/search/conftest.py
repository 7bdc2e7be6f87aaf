"""An index of six clips, and files to ask with."""

from pathlib import Path

import numpy as np
import pytest

from tools.search.build import build_index
from tools.search.index import SearchIndex


@pytest.fixture
def index(tmp_path: Path, run: Path, corpus: Path) -> SearchIndex:
    found, skipped = build_index([str(corpus / "val")], run, tmp_path / "index", segments=2)
    assert skipped == {}
    return found


@pytest.fixture
def film(corpus: Path) -> Path:
    return sorted((corpus / "videos" / "val").glob("*.mp4"))[0]


@pytest.fixture
def tone(tmp_path: Path) -> Path:
    import soundfile

    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.3 * np.sin(np.arange(36_000) * 0.1), 24_000)
    return path
