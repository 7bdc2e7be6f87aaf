"""The timeline: its arrow and its position in time are there, seen and heard."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.sample_data.timeline import (
    FORM,
    WIND_HZ,
    TimelineScene,
    build_timeline,
    draw_scene,
    render_audio,
    render_video,
)

TIMES = np.arange(64) / 16


@pytest.fixture(scope="module")
def scenes() -> list[TimelineScene]:
    return [draw_scene(0, "train", number) for number in range(12)]


def test_strikes_come_at_once_and_die_away(scenes: list[TimelineScene]) -> None:
    for scene in scenes:
        change = np.diff(render_video(scene).mean(axis=(1, 2, 3)))
        assert change.max() > 2 * -change.min(), "light comes faster than it goes"
        sound, tenth = render_audio(scene), FORM.sample_rate_hz // 10
        for second in scene.strike_seconds:
            at = round(second * FORM.sample_rate_hz)
            if tenth < at < len(sound) - tenth:
                before, after = sound[at - tenth : at], sound[at : at + tenth]
                assert np.square(after).mean() > 1.5 * np.square(before).mean()


def test_the_sun_and_the_wind_say_how_late_it_is(scenes: list[TimelineScene]) -> None:
    for scene in scenes:
        red, _, blue = (render_video(scene)[..., channel].astype(float) for channel in range(3))
        is_sun = (red > 240) & (blue > 180) & (blue < 200)
        seen = is_sun.any(axis=(1, 2))
        across = np.array([np.flatnonzero(row.any(axis=0)).mean() for row in is_sun[seen]])
        assert seen.sum() > 30
        off = np.abs(across / FORM.size - TIMES[seen] / 4)
        assert (off < 0.06).mean() > 0.9, "but where the shape hides half of it"
        windows = render_audio(scene)[: 40 * 1600].reshape(40, 1600)
        power = np.abs(np.fft.rfft(windows * np.hanning(1600))) ** 2
        frequencies = np.fft.rfftfreq(1600, 1 / FORM.sample_rate_hz)
        expected = WIND_HZ[0] * (WIND_HZ[1] / WIND_HZ[0]) ** ((np.arange(40) + 0.5) / 40)
        near = np.abs(np.log2(np.maximum(frequencies, 1) / expected[:, None])) < 0.25
        band = frequencies > 2 * WIND_HZ[0]
        late = slice(22, None)  # when the wind has left the notes below it
        share = (power * (near & band)).sum(axis=1) / (power * band).sum(axis=1)
        assert np.median(share[late]) > 0.5


def test_scenes_differ_and_do_not_depend_on_each_other(scenes: list[TimelineScene]) -> None:
    assert draw_scene(0, "train", 3) == scenes[3]
    assert draw_scene(0, "val", 3) != scenes[3]
    assert draw_scene(1, "train", 3) != scenes[3]
    assert len({scene.look_seed for scene in scenes}) == len(scenes)


def test_the_command_writes_videos_and_labels(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--videos", "2", "--val-videos", "1", "--workers", "1"]
    done = CliRunner().invoke(app, ["samples", "timeline", *arguments])
    assert done.exit_code == 0, done.output
    with (tmp_path / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["file"], row["label"]) for row in rows] == [
        ("train/train_00000.mp4", "disc"),
        ("train/train_00001.mp4", "square"),
        ("val/val_00000.mp4", "disc"),
    ]
    with av.open(str(tmp_path / rows[1]["file"])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = render_video(draw_scene(0, "train", 1))
    assert np.abs(np.stack(frames) - expected.astype(float)).mean() < 8


def test_numbers_below_zero_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="timeline: videos is -1; allowed: 0 or more"):
        build_timeline(tmp_path, -1)
