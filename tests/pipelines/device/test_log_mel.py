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
    power = librosa.feature.melspectrogram(
        y=sound, sr=24_000, n_fft=480, hop_length=240, win_length=480, window="hann",
        center=False, power=2.0, n_mels=40, fmin=0.0, fmax=12_000.0, htk=True, norm=None,
    )  # fmt: skip
    expected = (np.log(power + options.floor) - options.mean) / options.std
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=2e-4)


def test_a_gain_of_the_waveform_is_its_square_in_power() -> None:
    mel, sound = LogMelSpectrogram(LogMel()), torch.from_numpy(waveform())[None]
    torch.testing.assert_close(mel.power(0.9 * sound), 0.81 * mel.power(sound))


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
    with pytest.raises(ValueError, match=r"num_mels = 200 is too many .* at most 120"):
        LogMel(num_mels=200)
