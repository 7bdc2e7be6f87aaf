"""The benchmark of correspondence: one step of one method on a few small shapes, and its table."""

from pathlib import Path

import pytest

from benchmarks.trials import TRAINED, UNTRAINED, Failed, Trial, run_trials
from benchmarks.video_methods import CORRESPONDENCE, JF, make_shapes, settings, table
from tools.propagation.evaluate import COLOR, STILL
from tools.sample_data.moving_shapes import MovingShapesOptions


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shapes of 48 pixels, and their shards."""
    found = tmp_path_factory.mktemp("shapes")
    options = MovingShapesOptions(num_train=2, num_val=1, size=48, num_frames=8)
    make_shapes(found, options)
    return found


@pytest.mark.slow(seconds=8)
def test_a_trial_stands_beside_untrained_features_colours_and_still_masks(
    folder: Path, tmp_path: Path
) -> None:
    (setting,) = settings(folder, ["crw"], steps=1, batch_size=2)
    results = run_trials([setting], [0], tmp_path, say=lambda line: None)
    (trial,) = results["crw"]
    assert isinstance(trial, Trial), trial
    values = [trial.value(JF, name) for name in (TRAINED, UNTRAINED, COLOR, STILL)]
    assert all(value is not None and 0 < value < 1 for value in values)
    lines = table({**results, "udt": [Failed("udt", 0, "no frames")]}).splitlines()
    assert lines[2].startswith(
        f"| crw | {100 * (values[0] or 0):.1f} | {100 * (values[1] or 0):.1f}"
    )
    assert any(line.startswith(f"| {COLOR} | {100 * (values[2] or 0):.1f} | - |") for line in lines)
    assert lines[-1] == "udt, seed 0, failed: no frames"


def test_every_method_has_a_config_that_is_a_trial(folder: Path) -> None:
    for setting in settings(folder, list(CORRESPONDENCE), steps=3, batch_size=2):
        config = setting.resolved(1)
        assert config.method.name == setting.name
        assert (config.seed, config.trainer.max_steps) == (1, 3)
