"""A short run of configs/digits.toml knows digits as unknown speakers say and hands write them."""

from dataclasses import replace
from pathlib import Path

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
STEPS = 90
KNN_FLOORS = {"video": 0.6, "audio": 0.55}
RETRIEVAL_FLOOR = 0.3


@pytest.mark.slow(seconds=90)
@pytest.mark.timeout(1500)
def test_digits_are_found_and_known_far_above_untrained(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    videos, shards = tmp_path / "videos", tmp_path / "shards"
    build_digits(videos, 600, 150, workers=1)
    options = BuildOptions(clip_seconds=1, fps=10, size=(64, 64))
    for part in ("train", "val"):
        build([videos / part], shards / part, options, labels=videos / "labels.csv")
    changes = [f"data.shards={shards / 'train'}", "data.threads=1", "trainer.loggers=[]"]
    fit(CONFIG, tmp_path / "run", overrides=[*changes, f"trainer.max_steps={STEPS}"])

    data = {"train": shards / "train", "test": shards / "val"}
    request = Request(run=tmp_path / "run", data=data, places=(0.5,), threads=1, device="cpu")
    knn = evaluate(Knn((5,)), request).result
    for modality, floor in KNN_FLOORS.items():
        known = knn.value(modality, "accuracy, k = 5")
        untrained = knn.value(modality, "accuracy, k = 5", "untrained")
        assert known > max(floor, untrained + 0.2), knn.scores
    protocol = with_segments(load_protocol("default"), 1)
    found = evaluate(Retrieval(protocol), replace(request, data={"test": shards / "val"})).result
    for direction in ("video → audio, same label", "audio → video, same label"):
        assert found.value(direction, "R@1") > RETRIEVAL_FLOOR, found.scores
        assert found.value(direction, "R@1", "untrained") < 0.25, "chance is one in ten"
