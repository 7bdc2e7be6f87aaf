"""World models: ranks as the authors count them, and a run scored on episodes of blocks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.golden_numbers import golden
from tests.pipelines.conftest import write_shards
from tests.tools.evaluation.runs import make_run
from tools.evaluation.actions import actions_if_any
from tools.evaluation.errors import EvaluationError
from tools.evaluation.world_model import (
    KEPT,
    WorldModelRequest,
    evaluate_world_model,
    own_ranks,
)
from tools.sample_data.blocks import draw_episode, render
from tools.sample_data.moving_shapes import MovingShapesOptions, write_silent_video

CONFIG = """
[data]
shards = "unused"
[segment]
seconds = 0.4
num_frames = 4
[plan.sample]
relation = "distinctive"
[plan.modality]
relation = "invariant"
values = ["video"]
[video_augment]
size = 50
center_scale = 1.0
[method]
name = "cswm"
hidden_dim = 16
[encoders]
video = "cell_cnn"
[optimizer]
learning_rate = 0.1
[trainer]
epochs = 1
"""


def episode(folder: Path, number: int, about: dict[str, Any]) -> dict[str, bytes]:
    boards, actions = draw_episode(0, "val", number, 3)
    form = MovingShapesOptions(size=80, frames_per_second=10)
    write_silent_video(folder / "episode.mp4", np.stack([render(board) for board in boards]), form)
    facts = {"actions": actions.tolist(), "duration_seconds": 0.4} | about
    return {"mp4": (folder / "episode.mp4").read_bytes(), "json": json.dumps(facts).encode()}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("episodes")
    write_shards(folder / "shards", [episode(folder, number, {}) for number in range(5)])
    return folder / "shards"


def test_ranks_are_the_authors_and_equal_states_have_no_success() -> None:
    given, expected = golden("cswm", "evaluation")
    true, foretold = np.array(given["next_state"]), np.array(given["predicted"])
    ranks = own_ranks(true, foretold, ties="first")
    assert ranks.tolist() == expected["ranks_zero_based"]
    assert (ranks == 0).mean() == pytest.approx(expected["hits_at_1"])
    assert (1 / (1 + ranks)).mean() == pytest.approx(expected["mrr"])
    collapsed = np.zeros((6, 3, 2))
    assert own_ranks(collapsed, collapsed, ties="first").tolist() == [0] * 6
    assert own_ranks(collapsed, collapsed).tolist() == [5] * 6


def test_a_run_is_scored_beside_kept_states_and_chance(shards: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", CONFIG)
    request = WorldModelRequest(run=run, shards=str(shards), steps=(1, 3))
    result, out = evaluate_world_model(request)
    assert {(s.of, s.encoder) for s in result.scores} == {
        (of, encoder)
        for of in ("1 step", "3 steps")
        for encoder in ("trained", "untrained", KEPT, "chance")
    }
    assert result.value("1 step", "Hits@1", "chance") == pytest.approx(0.2)
    expected = sum(1 / rank for rank in range(1, 6)) / 5
    assert result.value("3 steps", "MRR", "chance") == pytest.approx(expected)
    assert json.loads((out / "metrics.json").read_text())["data"]["test"]["clips"] == 5
    with pytest.raises(EvaluationError, match=r"have 3 actions, and 9 steps ahead .* --steps 1,3"):
        evaluate_world_model(WorldModelRequest(run=run, shards=str(shards), steps=(9,)))


def test_what_is_no_world_model_or_no_episode_is_refused(shards: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other")
    with pytest.raises(EvaluationError, match=r"is a run of gdt, and a world model is one of cswm"):
        evaluate_world_model(WorldModelRequest(run=other, shards=str(shards)))
    texts = tmp_path / "texts.tsv"
    texts.write_text("no action\n")
    run = make_run(tmp_path / "run", CONFIG)
    with pytest.raises(EvaluationError, match=r"its samples have no `actions` in their json"):
        evaluate_world_model(WorldModelRequest(run=run, shards=str(texts)))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"actions": [1, 2]}, r"'clip-0001' of .* has 2 actions, and those before it have 3"),
        ({"actions": "up"}, r"'clip-0001' of .*: actions = 'up', must be whole numbers"),
        ({"duration_seconds": 4.0}, r"lasts 4 s, and a segment 0.4 s: its 3 actions are of the wh"),
    ],
)
def test_odd_actions_are_refused_with_the_sample(
    tmp_path: Path, about: dict[str, Any], message: str
) -> None:
    samples = [episode(tmp_path, 0, {}), episode(tmp_path, 1, about)]
    with pytest.raises(EvaluationError, match=message):
        actions_if_any(write_shards(tmp_path / "shards", samples), 0.4)
