"""Log-mel against librosa."""

import librosa
import numpy as np
import pytest
import torch

from pipelines.device.log_mel import LogMelSpectrogram
from pipelines.device.options import LogMel


def waveform() -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(24_000) / 24_000
    chirp = np.sin(2 * np.pi * (200 + 3000 * t) * t)
    return (0.3 * chirp + 0.05 * rng.normal(size=len(t))).astype(np.float32)


ON_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
def test_it_is_librosas(device: str) -> None:
    options = LogMel()
    sound = waveform()
    got = LogMelSpectrogram(options).to(device)(torch.from_numpy(sound)[None].to(device)).cpu()
    assert got.shape == (1, 1, 40, 99)
    assert options.num_frames(24_000) == 99
    expected = (librosas(sound, options) - options.mean) / options.std
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=2e-4)


def librosas(sound: np.ndarray, options: LogMel) -> np.ndarray:
    """Natural log-mel [F, L] before normalisation."""
    power = librosa.feature.melspectrogram(
        y=sound, sr=options.sample_rate_hz, n_fft=options.window_samples,
        hop_length=options.hop_samples, window="hann", center=False, power=2.0,
        n_mels=options.num_mels, fmin=0.0, fmax=options.sample_rate_hz / 2, htk=True, norm=None,
    )  # fmt: skip
    return np.log(power + options.floor)


def test_a_gain_of_the_waveform_is_its_square_in_power() -> None:
    mel, sound = LogMelSpectrogram(LogMel()), torch.from_numpy(waveform())[None]
    torch.testing.assert_close(mel.power(0.9 * sound), 0.81 * mel.power(sound))


def test_each_segment_is_normalised_by_itself() -> None:
    options = LogMel(normalize="clip")
    sounds = [waveform(), 0.02 * waveform()[::-1].copy(), 1e-3 * waveform()]
    got = LogMelSpectrogram(options)(torch.from_numpy(np.stack(sounds)))
    for sound, mine in zip(sounds, got, strict=True):
        log = librosas(sound, options).astype(np.float64)
        np.testing.assert_allclose(mine[0].numpy(), (log - log.mean()) / log.std(), 2e-3, 2e-3)


def test_a_gain_changes_nothing_where_each_segment_is_normalised_by_itself() -> None:
    sound = torch.from_numpy(waveform())[None]
    gains = 1, 0.1  # as voices of one corpus differ
    by_clip, by_corpus = (
        [LogMelSpectrogram(LogMel(normalize=way))(gain * sound) for gain in gains]
        for way in ("clip", "dataset")
    )
    assert (by_clip[0] - by_clip[1]).abs().max() < 0.05
    assert (by_corpus[0] - by_corpus[1]).abs().min() > 1


@pytest.mark.parametrize("normalize", ["dataset", "clip"])
def test_what_is_far_below_the_loudest_is_held_there(normalize: str) -> None:
    options = LogMel(top_db=40.0, normalize=normalize)
    sounds = [waveform(), 0.1 * waveform()]
    sounds[1][:12_000] = 0  # all of it is more than 40 dB below
    got = LogMelSpectrogram(options)(torch.from_numpy(np.stack(sounds)))
    for sound, mine in zip(sounds, got, strict=True):
        decibels = librosas(sound, options).astype(np.float64) * 10 / np.log(10)
        held = np.maximum(decibels, decibels.max() - 40) * np.log(10) / 10
        assert (decibels < decibels.max() - 40).any()
        mean, std = (held.mean(), held.std()) if normalize == "clip" else (-6.7, 3.9)
        np.testing.assert_allclose(mine[0].numpy(), (held - mean) / std, 2e-3, 2e-3)


def test_silence_and_tones_normalised_by_themselves_are_finite() -> None:
    tone = torch.sin(2 * torch.pi * 1000 / 24_000 * torch.arange(24_000))
    sounds = torch.stack([torch.zeros(24_000), torch.ones(24_000), tone, 1e-4 * tone, 1e-30 * tone])
    for top_db in (None, 40.0):
        spectrograms = LogMelSpectrogram(LogMel(top_db=top_db, normalize="clip"))(sounds)
        assert spectrograms.isfinite().all()
        assert spectrograms.abs().max() < 30
        for silent in spectrograms[0], spectrograms[4]:
            torch.testing.assert_close(silent, torch.zeros(1, 40, 99), rtol=0, atol=0.01)


def test_other_windows() -> None:
    options = LogMel(sample_rate_hz=16_000, num_mels=64, window_samples=400, hop_samples=160)
    out = LogMelSpectrogram(options)(torch.zeros(3, 16_000))
    assert out.shape == (3, 1, 64, options.num_frames(16_000))
    silence = (np.log(options.floor) - options.mean) / options.std
    assert torch.allclose(out, torch.tensor(silence, dtype=torch.float32))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="100 samples is shorter than one window of 480"):
        LogMelSpectrogram(LogMel())(torch.zeros(1, 100))
    with pytest.raises(ValueError, match="hop_samples = 0, must be positive"):
        LogMel(hop_samples=0)
    with pytest.raises(ValueError, match=r"top_db = 0\.0, must be positive"):
        LogMel(top_db=0.0)
    with pytest.raises(ValueError, match="normalize = 'row', must be one of dataset, clip"):
        LogMel(normalize="row")
    with pytest.raises(ValueError, match=r"num_mels = 200 is too many .* at most 120"):
        LogMel(num_mels=200)
