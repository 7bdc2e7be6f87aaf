"""Resampling in bounded memory: torchaudio's filter to rounding, and close to librosa's."""

import tracemalloc
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from torchaudio.functional import resample

from pipelines.decoding.resample import resample_by_sample
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.skips import SkipError
from shards import open_samples


def smooth_noise(count: int) -> Any:
    noise = np.random.default_rng(0).normal(size=count)
    return np.convolve(noise, np.hanning(32) / 16, "same").astype(np.float32)


@pytest.mark.parametrize(("old", "new"), [(147, 80), (80, 147), (320, 147), (2, 1), (7, 48)])
def test_it_is_torchaudios_filter(old: int, new: int) -> None:
    wave = np.random.default_rng(1).normal(size=6000).astype(np.float32)
    whole = resample(torch.from_numpy(wave).double(), old, new).numpy()  # whose taps are exact
    for first in (0, 137, len(whole) - 500):
        out = np.empty(500, np.float32)
        resample_by_sample(wave, 0, first, old, new, out)
        np.testing.assert_allclose(out, whole[first : first + 500], atol=1e-6)


def test_a_part_of_the_input_gives_a_part_of_the_output() -> None:
    wave = smooth_noise(48_000)
    whole, part = np.empty(20_000, np.float32), np.empty(1000, np.float32)
    resample_by_sample(wave, 0, 0, 11_999, 12_000, whole)
    resample_by_sample(wave[8900:10_100], 8900, 9000, 11_999, 12_000, part)
    np.testing.assert_allclose(part, whole[9000:10_000], atol=1e-7)


@pytest.mark.parametrize("rate", [23_998, 24_001, 44_056, 11_024, 47_999])
def test_odd_rates_are_read_in_little_memory(corpus: Any, tmp_path: Path, rate: int) -> None:
    wave = np.round(smooth_noise(3 * rate) * 8000).astype(np.int16)
    clip = corpus.clip(corpus.constant_rate(10, 3), wave, sample_rate_hz=rate)
    dataset = corpus.write(tmp_path, [corpus.members(clip)])
    reader = SegmentReader(dataset, SegmentOptions(sample_rate_hz=24_000), video=False)
    expected = librosa.resample(
        wave / np.float32(32768), orig_sr=rate, target_sr=24_000, res_type="soxr_hq"
    )
    starts = [0.0, 0.777, 2.0]
    tracemalloc.start()
    segments = reader.segments(0, starts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    for start, segment in zip(starts, segments, strict=True):
        first = round(start * 24_000)
        assert segment.audio is not None
        inside = slice(100, -100)  # at the ends the two make up different silence
        np.testing.assert_allclose(
            segment.audio[inside], expected[first : first + 24_000][inside], atol=2e-3
        )


@pytest.mark.parametrize("rate", [8000, 6000])
def test_samples_that_are_no_numbers_are_a_skip_that_names_them(tmp_path: Path, rate: int) -> None:
    wave = np.zeros(rate, np.float32)
    wave[rate // 2 + 10] = np.nan
    wavfile.write(tmp_path / "broken.wav", rate, wave)
    options = SegmentOptions(seconds=0.4, num_frames=1, sample_rate_hz=8000)
    reader = SegmentReader(open_samples(tmp_path), options, video=False)
    (before,) = reader.segments(0, [0.0])
    assert before.audio is not None
    with pytest.raises(SkipError, match=r"broken.wav'?: decode: its sound has samples that are no"):
        reader.segments(0, [0.3])
