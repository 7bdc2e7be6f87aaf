"""Sound lies where its times say, to the millisecond, whatever is missing and whatever clock runs.

The oracle is the clock that can be heard (tests/clock/readable_clock.py): any window of it tells
when it is. Frames are made here, or come out of files from which packets were taken.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from shards import BuildOptions
from shards.encoding.audio_timeline import AudioTimeline
from shards.encoding.transcode import transcode
from tests.clock.readable_clock import read_audio, sound
from tests.films import decode_audio
from tests.shards.encoding.test_transcode import units

RATE = 48_000
OUT = 24_000
FRAME = 1024
WINDOW = OUT // 20
SECONDS = 5.5


def heard(samples: NDArray[np.int16], at: float, speed: float = 1.0, start: float = 0.0) -> float:
    """When it is by the sound at `at` seconds of [C, S], on a clock of that speed."""
    wave = samples[0, round(at * OUT) :][:WINDOW].astype(np.float32) / np.float32(32768)
    # a stretched sound is the sound at another rate
    return speed * read_audio(wave, round(OUT * speed), near=(start + at) / speed)


def timeline(
    times: Callable[[float], float],
    *,
    lost: tuple[int, ...] = (),
    tick: Fraction = Fraction(1, RATE),
    start: float = 0.0,
) -> AudioTimeline:
    """The clock's sound in frames, each laid at times(when it is), rounded to ticks."""
    wave = sound(RATE)[: round(SECONDS * RATE)]
    made = AudioTimeline(Fraction(start), round((SECONDS - start) * OUT), OUT)
    for number in range(len(wave) // FRAME):
        if number in lost:
            continue
        block = wave[None, number * FRAME : (number + 1) * FRAME]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), "fltp", "mono")
        frame.sample_rate, frame.time_base = RATE, tick
        made.push(frame, round(times(number * FRAME / RATE) / float(tick)) * tick)
    made.finish()
    return made


@pytest.mark.parametrize("tick", [Fraction(1, RATE), Fraction(1, 90_000), Fraction(1, 1000)])
def test_what_is_whole_is_laid_as_it_is(tick: Fraction) -> None:
    made = timeline(lambda t: t, tick=tick)
    assert made.notes == []
    assert np.array_equal(made.samples, timeline(lambda t: t).samples)
    assert heard(made.samples, 3.0) == pytest.approx(3.0, abs=1e-4)


@pytest.mark.parametrize("tick", [Fraction(1, RATE), Fraction(1, 1000)])
def test_lost_frames_are_silence_and_move_nothing(tick: Fraction) -> None:
    lost = (40, 90, 91, 150, 200)
    made = timeline(lambda t: t, lost=lost, tick=tick)
    bound = 2e-4 if tick < Fraction(1, 2000) else 1e-3
    for at in (0.2, 1.2, 2.5, 3.6, 4.6):
        assert heard(made.samples, at) == pytest.approx(at, abs=bound)
    for number in lost:  # but for what the resampler smears
        middle = round((number + 0.5) * FRAME / RATE * OUT)
        assert np.abs(made.samples[0, middle - 150 : middle + 150]).max() == 0
    assert len(made.notes) == 4
    assert made.notes[0].startswith("audio at 0.853 s: a hole of 2")  # 21 ms, or 22 by its ticks
    assert made.notes[1].startswith("audio at 1.920 s: a hole of 4")


def test_frames_that_come_again_do_not_delay_what_follows() -> None:
    made = timeline(lambda t: t if t < 2 else t - FRAME / RATE)
    assert heard(made.samples, 1.0) == pytest.approx(1.0, abs=1e-4)
    assert heard(made.samples, 3.0) == pytest.approx(3.0 + FRAME / RATE, abs=1e-4)


@pytest.mark.parametrize("speed", [1.002, 0.998, 1.0005, 1.01])
@pytest.mark.parametrize(("tick", "start"), [(Fraction(1, RATE), 0.0), (Fraction(1, 1000), 1.5)])
def test_audio_on_another_clock_is_resampled_to_it(
    speed: float, tick: Fraction, start: float
) -> None:
    made = timeline(lambda t: t * speed, tick=tick, start=start)
    for at in (start + 0.1, 2.5, 3.6, 5.0):
        assert heard(made.samples, at - start, speed, start) == pytest.approx(at, abs=6e-4)
    (note,) = made.notes
    assert note == f"audio from {start:.3f} s: resampled to its clock ({100 * (speed - 1):+.2f} %)"


def test_times_that_waver_are_followed_on_average() -> None:
    waver = np.random.default_rng(3).uniform(-0.009, 0.009, 400)
    made = timeline(lambda t: t + waver[round(t * RATE / FRAME)], tick=Fraction(1, 1000))
    for at in (0.5, 1.5, 2.5, 3.6, 4.6):
        assert heard(made.samples, at) == pytest.approx(at, abs=3e-3)
    # no frame is torn from the next: silence is nowhere
    loud = np.abs(made.samples[0].astype(int)).reshape(-1, 60).max(1)
    assert (loud[: round(5.4 * OUT / 60)] > 0).all()


@pytest.mark.parametrize("speed", [1.002, 0.998])
def test_resampling_keeps_what_is_heard(speed: float) -> None:
    exact = sound(round(OUT * speed))[OUT : 4 * OUT]  # a stretched sound is one of another rate
    made = timeline(lambda t: t * speed).samples[0, OUT : 4 * OUT] / 32768
    assert np.sqrt(np.mean((made - exact) ** 2) / np.mean(exact**2)) < 4e-3


FORMS = [
    ("mp4", "mp4", "aac"),
    ("ts", "mpegts", "aac"),
    ("ts", "mpegts", "mp2"),
    ("mkv", "matroska", "aac"),
    ("mkv", "matroska", "libopus"),
    ("mkv", "matroska", "libmp3lame"),
    ("mp4", "mp4", "libmp3lame"),
    ("flv", "flv", "aac"),
    ("flv", "flv", "libmp3lame"),
]


def make_source(path: Path, container: str, codec: str, lost: range, speed: float) -> Path:
    """Pictures, and the clock's sound without some packets, or on a clock of another speed."""
    rate = 44_100 if container == "flv" else RATE
    with av.open(str(path), "w", format=container) as out:
        video: Any = out.add_stream("flv" if container == "flv" else "libx264", rate=25)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        audio: Any = out.add_stream(codec, rate=rate, layout="mono")
        audio.codec_context.bit_rate = 128_000
        for n in range(150):
            frame = av.VideoFrame.from_ndarray(np.full((144, 160), n, np.uint8), "yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        resampler = av.AudioResampler(
            format=audio.codec_context.format.name,
            layout="mono",
            rate=rate,
            frame_size=audio.codec_context.frame_size,
        )
        wave = av.AudioFrame.from_ndarray(sound(rate)[None], "fltp", "mono")
        wave.sample_rate, wave.pts, wave.time_base = rate, 0, Fraction(1, rate)
        frames = [*resampler.resample(wave), *resampler.resample(None)]
        packets = [p for frame in [*frames, None] for p in audio.encode(frame)]
        for number, packet in enumerate(packets):
            if number not in lost:
                packet.pts = round(packet.pts * speed)
                packet.dts = packet.pts
                out.mux(packet)
    return path


@pytest.mark.parametrize(("suffix", "container", "codec"), FORMS)
@pytest.mark.parametrize("fault", ["lost", "fast"])
def test_deviations_do_not_add_up_in_any_container(
    tmp_path: Path, suffix: str, container: str, codec: str, fault: str
) -> None:
    lost = range(60, 64, 2) if fault == "lost" else range(0)
    speed = 1.004 if fault == "fast" else 1.0
    path = make_source(tmp_path / f"a.{suffix}", container, codec, lost, speed)
    options = BuildOptions(clip_seconds=5.5, fps=25.0)
    (unit,) = units(path, options)
    result = transcode(unit, options)
    (clip,) = result.samples
    wave = (decode_audio(clip.members["flac"])[None] * 32767).astype(np.int16)
    for at in (0.5, 3.0, 5.0):
        assert heard(wave, at, speed) == pytest.approx(at, abs=1.2e-3)
    assert any("audio" in note for note in result.details)
