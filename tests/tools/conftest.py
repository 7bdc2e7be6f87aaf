"""A tiny data set and a config that trains on it within seconds; a labelled one, and a run."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.evaluation.runs import make_run

TINY_CONFIG = """
seed = 3
[data]
shards = "SHARDS"
batch_size = 4
threads = 2
[segment]
seconds = 0.5
num_frames = 4
[plan.sample]
relation = "distinctive"
[plan.time_shift]
relation = "distinctive"
draws = 2
[plan.modality]
relation = "invariant"
values = ["video", "audio"]
pairs = "cross"
[video_augment]
size = 16
[method]
name = "gdt"
hidden_dim = 16
embedding_dim = 8
dropout = 0.2

[encoders]
video = "r2plus1d_small"
audio = "resnet9_small"
[optimizer]
learning_rate = 0.01
warmup_epochs = 1.0
schedule = "cosine"
[trainer]
epochs = 3
accelerator = "cpu"
checkpoint_every_steps = 2
"""


@pytest.fixture(scope="session")
def tiny_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """14 clips of the synthetic corpus, of one second."""
    from shards import BuildOptions
    from shards.building.build import build
    from tools.sample_data.synthetic import SyntheticOptions, build_corpus

    folder = tmp_path_factory.mktemp("tiny")
    build_corpus(folder / "videos", SyntheticOptions(num_train=14, num_val=0, seconds=1, size=32))
    options = BuildOptions(clip_seconds=1.0, short_side=32)
    build([folder / "videos" / "train"], folder / "shards", options)
    return folder / "shards"


@pytest.fixture
def tiny_config(tiny_shards: Path, tmp_path: Path) -> Path:
    """A config over `tiny_shards`: 3 epochs of 3 steps, with dropout and a schedule."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY_CONFIG.replace("SHARDS", str(tiny_shards)))
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/train, val and bare: 12, 6 and 6 clips of 1.5 s with 3 labels; bare without."""
    from shards import BuildOptions
    from shards.building.build import build
    from tools.sample_data.synthetic import SyntheticOptions, build_corpus

    folder = tmp_path_factory.mktemp("corpus")
    build_corpus(folder / "videos", SyntheticOptions(num_train=12, num_val=6, seconds=1.5, size=32))
    options = BuildOptions(clip_seconds=1.5, size=(32, 32))
    for part in ("train", "val"):
        names = sorted(path.name for path in (folder / "videos" / part).iterdir())
        rows = [f"{name},{'abc'[i % 3]},{i // 3 % 3}\n" for i, name in enumerate(names)]
        table = folder / f"{part}.csv"
        table.write_text("file,label,fold\n" + "".join(rows))
        build([folder / "videos" / part], folder / part, options, labels=table, num_workers=1)
    build([folder / "videos" / "val"], folder / "bare", options, num_workers=1)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of video and audio."""
    return make_run(tmp_path / "run")


@pytest.fixture
def copy_of(corpus: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of a part of the corpus that a test may damage."""
    return lambda part: Path(shutil.copytree(corpus / part, tmp_path / f"copy-of-{part}"))
