"""metrics.json: read back as written, never overwritten by another, and shown side by side."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tools.evaluation.errors import EvaluationError
from tools.evaluation.result import Evaluation, Score, SplitFacts, number_text, print_evaluation
from tools.evaluation.side_by_side import find_evaluations, print_side_by_side

RESULT = Evaluation(
    task="knn",
    run={"path": "runs/x", "step": 70, "weights": "w", "plan": "p"},
    data={"test": SplitFacts("shards/val", "f", 8, {"checksum": 2})},
    settings={"places": [0.25, 0.75]},
    interval="95 % bootstrap over the test clips",
    scores=[
        Score("audio", "trained", "accuracy, k = 1", 0.5, 0.25, 0.75),
        Score("audio", "untrained", "accuracy, k = 1", 0.25, 0.125, 0.375),
        Score("", "chance", "accuracy, k = 1", 0.125),
    ],
    left_out=[{"what": "k = 20", "why": "8 clips"}],
    notes=["Mind the gap."],
)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def test_written_and_read_back(tmp_path: Path) -> None:
    RESULT.write(tmp_path)
    RESULT.write(tmp_path)  # the same evaluation once more
    again = Evaluation.read(tmp_path / "metrics.json")
    assert again == RESULT
    assert again.identity == RESULT.identity
    assert again.value("audio", "accuracy, k = 1") == 0.5
    with pytest.raises(KeyError, match="no NMI of audio"):
        again.value("audio", "NMI")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["schema"] == "gdt-metrics/1"
    assert content["scores"][0]["low"] == 0.25


def test_another_evaluation_is_not_overwritten(tmp_path: Path) -> None:
    RESULT.write(tmp_path)
    other = replace(RESULT, settings={"places": [0.5]})
    with pytest.raises(EvaluationError, match=r"holds another evaluation \(knn, step 70, test sh"):
        other.write(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(EvaluationError, match="Choose another --out, or move that file away"):
        RESULT.write(tmp_path)


def test_the_table_stands_beside_chance(capsys: pytest.CaptureFixture[str]) -> None:
    print_evaluation(RESULT, "kNN", Path("out"))
    text = shown(capsys)
    assert "audio 70 steps 50.0 % 25.0–75.0" in text
    assert "audio untrained 25.0 % 12.5–37.5 chance 12.5 %" in text
    assert "test shards/val: 8 clips; 2 skipped (checksum 2)" in text
    assert "2 segments a clip" in text
    assert "left out k = 20: 8 clips" in text
    assert "metrics out/metrics.json Mind the gap." in text


def test_runs_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RESULT.write(tmp_path / "a")
    replace(RESULT, run={**RESULT.run, "path": "runs/y", "weights": "v"}).write(tmp_path / "b")
    other_data = {"test": SplitFacts("shards/other", "g", 8, {})}
    replace(RESULT, data=other_data).write(tmp_path / "c")
    print_side_by_side(find_evaluations([tmp_path]))
    text = shown(capsys)
    assert text.count("knn on shards/val") == 1
    assert text.count("knn on shards/other") == 1
    assert text.index("runs/x") < text.index("runs/y")
    with pytest.raises(EvaluationError, match="no results under"):
        find_evaluations([tmp_path / "nothing"])


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [("R@1", 0.1234, "12.3 %"), ("median rank", 4, "4.0"), ("mAP", 0.5, "0.500")],
)
def test_numbers_are_written_as_they_are_read(metric: str, value: float, text: str) -> None:
    assert number_text(metric, value) == text
