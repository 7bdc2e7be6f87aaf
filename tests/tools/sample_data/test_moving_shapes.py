"""Moving shapes: masks are exact, clips are their seed's, and shapes do move."""

from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.propagation.clips import read_clips
from tools.sample_data.moving_shapes import MovingShapesOptions, palette, render_clip

SMALL = MovingShapesOptions(num_train=1, num_val=2, size=32, num_frames=6)


def test_masks_name_the_shapes_and_frames_change_at_their_edges() -> None:
    frames, masks = render_clip(MovingShapesOptions(num_frames=6), "val", 0)
    assert frames.shape == (6, 96, 96, 3)
    assert masks.shape == (6, 96, 96)
    assert set(np.unique(masks[0])) <= {0, 1, 2, 3}
    assert masks[0].max() >= 2
    assert (masks[0] != masks[5]).any()
    # within a shape neighbours are alike, across its outline they are not
    step = np.abs(np.diff(frames[0].astype(int), axis=1)).sum(2)
    across = np.diff(masks[0].astype(int), axis=1) != 0
    assert step[across].mean() > 1.5 * step[~across].mean()


def test_a_clip_is_a_function_of_seed_folder_and_number() -> None:
    one, same = render_clip(SMALL, "val", 0), render_clip(SMALL, "val", 0)
    assert np.array_equal(one[0], same[0])
    assert np.array_equal(one[1], same[1])
    others = [
        render_clip(SMALL, "val", 1),
        render_clip(SMALL, "train", 0),
        render_clip(MovingShapesOptions(size=32, num_frames=6, seed=1), "val", 0),
    ]
    assert not any(np.array_equal(one[0], other[0]) for other in others)


def test_the_command_writes_videos_and_clips_in_daviss_layout(tmp_path: Path) -> None:
    arguments = ["--videos", "1", "--val-videos", "2", "--frames", "6", "--size", "32"]
    result = CliRunner().invoke(app, ["samples", "shapes", "--out", str(tmp_path), *arguments])
    assert result.exit_code == 0, result.output
    with av.open(str(tmp_path / "train" / "shapes_00000.mp4")) as container:
        assert len(list(container.decode(video=0))) == 6
    clips = read_clips(tmp_path, "davis", "val")
    assert [clip.name for clip in clips] == ["shapes_000", "shapes_001"]
    frames, masks = render_clip(SMALL, "val", 1)
    assert all(np.array_equal(clips[1].mask(n), masks[n]) for n in range(6))
    error = np.abs(clips[1].frame(0).astype(int) - frames[0]).mean()
    assert error < 12  # JPEG


def test_options_and_palette(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_frames is 2; allowed: 3 or more"):
        MovingShapesOptions(num_frames=2)
    result = CliRunner().invoke(app, ["samples", "shapes", "--out", str(tmp_path), "--size", "33"])
    assert result.exit_code == 2
    assert palette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]  # PASCAL VOC
