"""Rows of several playback speeds: which frames, which sound, which bytes, which codes."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchaudio.functional import speed as torchaudio_speed

from gdt.plan import Plan
from pipelines.decoding.segment import SegmentOptions, byte_ranges
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.decoding.speed import row_speeds, source_rate_hz, speeds_of
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.sampling.draws import uniform
from pipelines.skips import SkipError
from shards import Dataset

RATE = 24_000


def plan_with(**factors: Any) -> Plan:
    tables: dict[str, Any] = {
        "sample": {"relation": "distinctive"},
        "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
    }
    return Plan.from_tables(tables | factors)


@pytest.fixture(scope="module")
def dataset(corpus: Any, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    clip = corpus.clip(corpus.constant_rate(30, 5), corpus.noise(5.0))
    found: Dataset = corpus.write(tmp_path_factory.mktemp("speed"), [corpus.members(clip)])
    return found


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.1, 2.0, 3.0])
def test_frames_are_spread_over_a_multiple_of_the_seconds(
    corpus: Any, dataset: Dataset, speed: float
) -> None:
    options = SegmentOptions(num_frames=10)
    reader = SegmentReader(dataset, options, audio=False, speeds=(speed,))
    (segment,) = reader.segments(0, [0.25])
    step = Fraction(str(speed)) / 10
    middles = [Fraction(1, 4) + (i + Fraction(1, 2)) * step for i in range(10)]
    assert segment.video is not None
    assert corpus.numbers(segment.video, segment.width) == [int(t * 30) for t in middles]
    assert segment.stop_seconds == pytest.approx(0.25 + speed)


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.25, 2.0])
def test_sound_is_that_of_speed_perturbation(corpus: Any, dataset: Dataset, speed: float) -> None:
    reader = SegmentReader(dataset, SegmentOptions(), video=False, speeds=(speed,))
    (segment,) = reader.segments(0, [0.5])
    whole = torch.from_numpy(corpus.noise(5.0) / np.float32(32768))
    played, _ = torchaudio_speed(whole, RATE, speed)  # at once, by another's arithmetic
    first = round(0.5 * RATE / speed)
    assert segment.audio is not None
    expected = played[first : first + RATE].numpy()
    np.testing.assert_allclose(segment.audio, expected, atol=2e-6)


def test_twice_as_fast_is_an_octave_higher(corpus: Any, tmp_path: Path) -> None:
    tone = np.round(8000 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)).astype(np.int16)
    clip = corpus.clip(corpus.constant_rate(10, 3), tone)
    data = corpus.write(tmp_path, [corpus.members(clip)])
    reader = SegmentReader(data, SegmentOptions(), video=False, speeds=(0.5, 1.0, 2.0))
    segments = reader.segments(0, [0.5])
    waves = [segment.audio for segment in segments if segment.audio is not None]
    assert [int(np.abs(np.fft.rfft(wave)).argmax()) for wave in waves] == [220, 440, 880]


@pytest.mark.parametrize("speeds", [(1.0,), (1.0, 2.0), (0.5, 1.1, 4.0)])
def test_every_byte_that_is_read_was_announced(
    dataset: Dataset, speeds: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = SegmentReader(dataset, SegmentOptions(num_frames=8), speeds=speeds)
    asked: list[tuple[int, int]] = []
    read = Dataset.read

    def recorded(self: Dataset, sample: Any, offset: int, size: int) -> bytes:
        asked.append((offset, size))
        return read(self, sample, offset, size)

    monkeypatch.setattr(Dataset, "read", recorded)
    starts = np.array([0.0, 0.6, 0.95])
    reader.segments(0, starts.tolist())
    sample, rows = dataset.sample(0), starts.repeat(len(speeds))
    announced = [
        span
        for track in (sample.video, sample.audio)
        if track is not None
        for span in byte_ranges(track, rows, reader.options, row_speeds(len(rows), speeds))
    ]
    assert asked
    for offset, size in asked:
        assert any(a <= offset and offset + size <= a + b for a, b in announced)


def test_a_clip_must_hold_the_fastest(dataset: Dataset) -> None:
    reader = SegmentReader(dataset, SegmentOptions(), speeds=(1.0, 6.0))
    with pytest.raises(SkipError, match=r"5\.000 s in common, and a segment needs 6\.000 s at sp"):
        reader.span(dataset.sample(0))
    reader = SegmentReader(dataset, SegmentOptions(), speeds=(1.0, 2.0))
    assert reader.starts(dataset.sample(0), np.array([0.0, 1.0])).tolist() == [0, 0, 3, 3]
    with pytest.raises(SkipError, match=r"segment of 2\.000 s at speed 2 from 3\.500 s lies out"):
        reader.segments(0, [3.5])


@pytest.mark.slow(seconds=10)
@pytest.mark.parametrize("isolate", [False, True])
def test_a_stream_gives_samples_times_shifts_times_speeds(
    small_dataset: Dataset, isolate: bool
) -> None:
    plan = plan_with(
        time_shift={"relation": "distinctive", "draws": 2},
        speed={"relation": "distinctive", "values": [1.0, 2.0, 0.5]},
    )
    segment = SegmentOptions(seconds=0.4, num_frames=3, decoder="av")
    options = StreamOptions(batch_size=4, isolate=isolate)
    batch = next(iter(Stream(small_dataset, plan, segment, options, seed=3)))
    assert batch.speed is not None
    assert batch.frames is not None
    assert batch.audio is not None
    assert (len(batch), batch.audio.shape) == (24, (24, 9600))
    assert batch.shift.tolist() == [0, 0, 0, 1, 1, 1] * 4
    assert batch.speed.tolist() == [0, 1, 2] * 8
    reader = SegmentReader(small_dataset, segment, speeds=speeds_of(plan))
    for first in range(0, 24, 3):
        sample, shift = int(batch.sample[first]), int(batch.shift[first])
        start = float(uniform(3, 0, sample, "time_shift", shift)) * (1.2 - 0.8)
        assert batch.start_seconds[first : first + 3].tolist() == pytest.approx([start] * 3)
        rows = reader.segments(sample, [float(batch.start_seconds[first])])
        for row, expected in enumerate(rows, start=first):
            assert expected.video is not None
            assert expected.audio is not None
            assert np.array_equal(batch.frames[row].numpy(), expected.video)
            assert np.array_equal(batch.audio[row].numpy(), expected.audio)


def test_speeds_are_the_numbers_they_look_like() -> None:
    assert source_rate_hz(24_000, 1.1) == Fraction(240_000, 11)
    assert speeds_of(plan_with()) == (1.0,)
