"""The digits: what is seen and heard belongs together, and nothing held out is trained on."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from tools.sample_data.digit_material import TEST_SPEAKERS, packaged_material
from tools.sample_data.digits import build_digits, draw_videos

MATERIAL = packaged_material()


def test_the_material_is_whole() -> None:
    assert np.bincount(MATERIAL.picture_digits).tolist() == [190] * 10
    assert np.bincount(MATERIAL.spoken_digits).tolist() == [182] * 10
    assert np.bincount(MATERIAL.speakers).tolist() == [380] * 4 + [150] * 2
    lengths = [len(recording) / 48_000 for recording in MATERIAL.recordings]
    assert 0.1 < min(lengths) < max(lengths) <= 0.9
    assert min(np.abs(recording).max() for recording in MATERIAL.recordings) > 0.003


def test_digits_agree_and_nothing_held_out_is_trained_on() -> None:
    train, val = (draw_videos(MATERIAL, part, n, 0) for part, n in (("train", 1500), ("val", 300)))
    assert (len(train), len(val)) == (1500, 300)
    for video in train + val:
        assert video.name.endswith(f"{video.digit}.mp4")
        assert MATERIAL.picture_digits[video.picture] == video.digit
        assert MATERIAL.spoken_digits[video.recording] == video.digit
    for what in ("picture", "recording"):
        assert {getattr(v, what) for v in train}.isdisjoint(getattr(v, what) for v in val)
    assert {int(MATERIAL.speakers[v.recording]) for v in val} == set(TEST_SPEAKERS)
    assert {int(MATERIAL.speakers[v.recording]) for v in train}.isdisjoint(TEST_SPEAKERS)
    assert len({v.recording for v in train}) == 1500, "each once, where there are enough"
    assert draw_videos(MATERIAL, "train", 30, 0) != draw_videos(MATERIAL, "train", 30, 1)


def test_videos_show_the_picture_and_play_the_recording(tmp_path: Path) -> None:
    build_digits(tmp_path, 3, 2, workers=2)
    with (tmp_path / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["file"][:5] for row in rows] == ["train"] * 3 + ["val/v"] * 2
    for row in rows:
        with av.open(str(tmp_path / row["file"])) as container:
            frames = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
        with av.open(str(tmp_path / row["file"])) as container:
            sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
        assert len(frames) == 10
        picture = MATERIAL.pictures[int(row["picture"])].repeat(2, axis=0).repeat(2, axis=1)
        offsets = [(a, b) for a in range(9) for b in range(9)]
        errors = [np.abs(frames[0][a : a + 56, b : b + 56] - 1.0 * picture) for a, b in offsets]
        assert min(error.mean() for error in errors) < 12
        recording = MATERIAL.recordings[int(row["recording"])]
        same = np.correlate(sound[::6], recording[::6], "valid").max()
        energy = np.linalg.norm(sound[::6]) * np.linalg.norm(recording[::6])
        assert same / energy > 0.8
    assert "ShareAlike 4.0" in (tmp_path / "ATTRIBUTION.txt").read_text()


def test_numbers_below_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="digits: val_videos is -1; allowed: 0 or more"):
        build_digits(tmp_path, 1, -1)
