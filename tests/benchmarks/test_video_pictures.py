"""Pictures of walks and of copied colours, of small runs on a small clip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.video_pictures import copied_colors, walks
from tests.tools.evaluation.runs import make_run
from tests.tools.propagation.test_evaluate import FRAMES_CONFIG
from tools.propagation.clips import LabelledClip, read_clips
from tools.runs.run import Run, load_run
from tools.sample_data.moving_shapes import MovingShapesOptions, build_moving_shapes


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> LabelledClip:
    folder = tmp_path_factory.mktemp("shapes")
    build_moving_shapes(folder, MovingShapesOptions(num_train=0, num_val=1, size=48, num_frames=12))
    return read_clips(folder, "davis", "val")[0]


def run_of(folder: Path, config: str) -> Run:
    return load_run(make_run(folder, config))


def test_walkers_begin_in_one_cell_of_each_object(tmp_path: Path, clip: LabelledClip) -> None:
    config = FRAMES_CONFIG.replace("[encoders]", "[encoders]\nmap_stride = 4\nnum_stages = 2")
    rows = walks(run_of(tmp_path / "crw", config), clip)
    assert list(rows) == [f"from shape {n}" for n in range(1, int(clip.mask(0).max()) + 1)]
    for pictures in rows.values():
        assert len(pictures) == 6
        warm = pictures[0][..., 0].astype(int) - pictures[0][..., 2] > 30
        assert warm.sum() == 16  # one cell of 4 × 4 pixels


def test_colours_are_copied_from_the_frame_before(tmp_path: Path, clip: LabelledClip) -> None:
    config = FRAMES_CONFIG.replace('"crw"', '"colorization"').replace(
        "size = 32",
        'size = 32\nchannels = "lab"\nmean = [50.0, 0.0, 0.0]\nstd = [25.0, 25.0, 25.0]',
    )
    run = run_of(tmp_path / "colorization", config)
    rows = copied_colors(run, clip)
    assert set(rows) == {"frames", "seen", "copied"}
    spread = np.ptp(rows["seen"][1].astype(int), axis=2)
    assert spread.max() <= 2  # gray
    assert np.array_equal(rows["copied"][0], clip.frame(0))
    with pytest.raises(ValueError, match=r"is a run of colorization: walks are CRW's"):
        walks(replace(run, path=Path("runs/colors")), clip)
