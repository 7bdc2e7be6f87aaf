"""Silent sound and static pictures, on both sides of what counts as such."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from shards import BuildOptions, Dataset
from shards.building.build import build
from shards.encoding.clip_filters import MotionMeter, is_silent

Luma = npt.NDArray[np.uint8]


def sine(dbfs: float) -> npt.NDArray[np.int16]:
    """A second of a sine whose root mean square is this far below full scale."""
    t = np.arange(24000) / 24000
    amplitude = 32768 * 10 ** (dbfs / 20) * np.sqrt(2)
    wave: npt.NDArray[np.int16] = np.round(amplitude * np.sin(2880 * t)).astype(np.int16)
    return wave


def test_silence_is_below_60_db_of_full_scale() -> None:
    assert [is_silent(sine(dbfs)) for dbfs in (-90, -60.5, -59.5, -3)] == [True, True, False, False]
    loud = np.full(24000, -32768, np.int16)  # whose squares no 16 bits hold
    assert not is_silent(loud)
    assert is_silent(np.zeros(10, np.int16))
    click = np.zeros(24000, np.int16)
    click[100:124] = 20000  # 24 samples of a second: -34 dB
    assert not is_silent(click)


def meter(pictures: Sequence[Luma], rate: int = 10) -> MotionMeter:
    motion = MotionMeter(len(pictures), Fraction(rate))
    for luma in pictures:
        planes = np.concatenate([luma, np.full((luma.shape[0] // 2, luma.shape[1]), 128, np.uint8)])
        motion.see(av.VideoFrame.from_ndarray(planes, "yuv420p"))
    return motion


def changing(levels: Sequence[float], per_level: int = 5, width: int = 48) -> list[Luma]:
    """Pictures that stand for `per_level` frames; the mean luma of each is 100 + level."""
    pictures = []
    for level in levels:
        luma = np.full((40, width), 100 + int(level), np.uint8)
        luma.reshape(-1)[: round((level - int(level)) * luma.size)] += 1
        pictures += [luma] * per_level
    return pictures


def test_static_is_less_than_a_thousandth_of_full_scale_in_half_a_second() -> None:
    # at 10 frames a second, pictures half a second apart are five frames apart; 0.255 is the limit
    assert meter(changing([0.25 * n for n in range(8)])).is_static
    assert not meter(changing([0.26 * n for n in range(8)])).is_static
    odd = meter(changing([0.26 * n for n in range(8)], width=50))  # rows are padded in memory
    assert not odd.is_static
    assert meter([np.full((40, 48), 7, np.uint8)] * 30).is_static


def test_a_slide_show_is_static_and_a_short_clip_that_moves_is_not() -> None:
    assert meter(changing([0] * 4 + [90] * 4)).is_static  # one change among seven
    assert not meter(changing([0, 0, 0, 9, 18, 27, 36, 45])).is_static  # moves for more than half
    assert not meter(changing([0, 30], per_level=1)).is_static  # two frames
    assert meter(changing([0], per_level=1)).is_static


def write_film(path: Path, moving: Sequence[bool], loud: Sequence[bool]) -> Path:
    """Seconds of a film: noise that is new in every picture, or a still; hiss, or one at -70 dB."""
    rng = np.random.default_rng(3)
    still = rng.integers(16, 235, (9, 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as out:
        video: Any = out.add_stream("libx264", rate=10, options={"preset": "veryfast", "g": "10"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.colorspace = video.codec_context.color_range = 1
        audio: Any = out.add_stream("flac", rate=24000, layout="mono", format="s16")
        for n in range(10 * len(moving)):
            moves = moving[n // 10]
            planes = rng.integers(16, 235, (72, 64), dtype=np.uint8) if moves else still
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 10)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for second, is_loud in enumerate(loud):
            wave = np.round(rng.normal(0, 3000 if is_loud else 10, (1, 24000))).astype(np.int16)
            for first in range(0, 24000, 4000):
                part = np.ascontiguousarray(wave[:, first : first + 4000])
                sound = av.AudioFrame.from_ndarray(part, "s16", "mono")
                sound.sample_rate, sound.time_base = 24000, Fraction(1, 24000)
                sound.pts = 24000 * second + first
                out.mux(audio.encode(sound))
        out.mux(audio.encode(None))
    return path


@pytest.mark.parametrize(
    ("require", "kept", "lost"),
    [
        (("audio",), [0, 1, 2, 3], {}),
        (("audible",), [0, 2], {"the audio is silent": 2}),
        (("motion",), [0, 3], {"the video hardly changes": 2}),
        (
            ("audible", "motion"),
            [0],
            {"the audio is silent": 2, "the video hardly changes": 1},
        ),
    ],
)
def test_clips_without_what_is_required_are_counted(
    tmp_path: Path, require: tuple[str, ...], kept: list[int], lost: dict[str, int]
) -> None:
    moving, loud = (True, False, False, True), (True, False, True, False)
    path = write_film(tmp_path / "film.mkv", moving, loud)
    options = BuildOptions(clip_seconds=1.0, fps=10, size=(64, 48), require=require)
    copied = BuildOptions(
        clip_seconds=1.0, fps="source", size="source", require=require, profile="copy"
    )
    for number, each in enumerate((options, copied)):
        out = tmp_path / f"out {number}"
        summary = build([path], out, each)
        data_set = Dataset.open(out)
        found = [data_set.metadata(i)["start_seconds"] for i in range(len(data_set))]
        assert found == kept
        assert summary.skipped_clips == lost
