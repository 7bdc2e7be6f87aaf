"""A run of configs/digits.toml knows digits as unknown hands write and unknown voices say them."""

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from shards import BuildOptions
from shards.building.build import build
from tools import fit
from tools.evaluation.protocol import load_protocol, with_segments
from tools.evaluation.runner import Request, evaluate
from tools.evaluation.tasks.knn import Knn
from tools.evaluation.tasks.retrieval import Retrieval
from tools.sample_data.digits import build_digits

CONFIG = Path(__file__).parents[3] / "configs" / "digits.toml"


class Size(NamedTuple):
    """How much is learned from, and what it must come to, as shares of 1."""

    train: int
    val: int
    steps: int
    knn: dict[str, float]
    same_digit: float


#: A quarter of the config's steps on two fifths of its clips, which come to 66 and 37 % (from 37
#: and 10); and, in six minutes, all of it, which comes to 95, 86 and 84 %:
#: DIGITS=full pytest tests/tools/training/test_digits.py
SHORT = Size(600, 150, 90, {"video": 0.5}, 0.22)
FULL = Size(1500, 300, 368, {"video": 0.85, "audio": 0.72}, 0.68)
SIZE = FULL if os.environ.get("DIGITS") == "full" else SHORT


@pytest.mark.slow(seconds=80)
@pytest.mark.timeout(1500)
def test_digits_are_found_and_known_above_untrained(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    videos, shards = tmp_path / "videos", tmp_path / "shards"
    build_digits(videos, SIZE.train, SIZE.val, workers=1)
    options = BuildOptions(clip_seconds=1, fps=10, size=(64, 64))
    for part in ("train", "val"):
        build([videos / part], shards / part, options, labels=videos / "labels.csv")
    changes = [f"data.shards={shards / 'train'}", "data.threads=1", "trainer.loggers=[]"]
    fit(CONFIG, tmp_path / "run", overrides=[*changes, f"trainer.max_steps={SIZE.steps}"])

    data = {"train": shards / "train", "test": shards / "val"}
    request = Request(run=tmp_path / "run", data=data, places=(0.5,), threads=1, device="cpu")
    knn = evaluate(Knn((5,)), request).result
    for modality, floor in SIZE.knn.items():
        known = knn.value(modality, "accuracy, k = 5")
        untrained = knn.value(modality, "accuracy, k = 5", "untrained")
        assert known > max(floor, untrained + 0.05), knn.scores
    protocol = with_segments(load_protocol("default"), 1)
    found = evaluate(Retrieval(protocol), replace(request, data={"test": shards / "val"})).result
    for direction in ("video → audio, same label", "audio → video, same label"):
        assert found.value(direction, "R@1") > SIZE.same_digit, found.scores
        assert found.value(direction, "R@1", "untrained") < 0.2, "chance: one in ten"
