"""Compute log-mel spectrograms in batches, on the device.

What the audio encoder sees of one second: 24,000 samples at 24 kHz in 20 ms windows every 10 ms
give 40 mel bins × 99 frames (Patrick et al., section 4; no padding at the ends).

Legend: B rows, S audio samples, F mel bins, L spectrogram frames.
"""

import math

import torch
from torch import Tensor, nn

from pipelines.device.options import LogMel

__all__ = ["LogMelSpectrogram"]

_LEAST_STD = 1e-3  # of natural log-mel: 1/1000 or less of a sound's, and above rounding of silence
_OF_DECIBEL = math.log(10) / 10  # of natural log power


class LogMelSpectrogram(nn.Module):
    """Waveform to mel power to log-mel, with torchaudio's HTK mels; traces without a break."""

    window: Tensor  # [window_samples]
    mels: Tensor  # [window_samples / 2 + 1, F]

    def __init__(self, options: LogMel) -> None:
        from torchaudio.functional import melscale_fbanks

        super().__init__()
        self.options = options
        half_rate = options.sample_rate_hz / 2
        mels = melscale_fbanks(
            options.window_samples // 2 + 1,
            0.0,
            half_rate,
            options.num_mels,
            options.sample_rate_hz,
        )
        self.register_buffer("mels", mels, persistent=False)
        window = torch.hann_window(options.window_samples)
        self.register_buffer("window", window, persistent=False)

    def power(self, waveform: Tensor) -> Tensor:
        """Mel power, float [B, F, L], of waveforms [B, S]. A gain g of the waveform is g² here.

        Raises:
            ValueError: a waveform shorter than one window.
        """
        if self.options.num_frames(waveform.shape[-1]) < 1:
            raise ValueError(
                f"LogMel: a waveform of {waveform.shape[-1]} samples is shorter than one window "
                f"of {self.options.window_samples}; make the segment longer"
            )
        spectrum = torch.stft(
            waveform,
            self.options.window_samples,
            self.options.hop_samples,
            window=self.window,
            center=False,
            return_complex=True,
        )
        return (spectrum.abs().square().transpose(1, 2) @ self.mels).transpose(1, 2)

    def log(self, power: Tensor) -> Tensor:
        """Normalised natural logarithm of mel power [..., F, L], the same shape.

        A spectrogram without any contrast, as of silence, normalised by itself is 0 throughout.
        """
        log = torch.log(power + self.options.floor)
        if self.options.top_db is not None:
            loudest = log.amax(dim=(-2, -1), keepdim=True)
            log = torch.maximum(log, loudest - self.options.top_db * _OF_DECIBEL)
        if self.options.normalize == "dataset":
            return (log - self.options.mean) / self.options.std
        std, mean = torch.std_mean(log, dim=(-2, -1), correction=0, keepdim=True)
        return (log - mean) / (std + _LEAST_STD)

    def forward(self, waveform: Tensor) -> Tensor:
        """Log-mel, float [B, 1, F, L], of waveforms [B, S]."""
        return self.log(self.power(waveform)).unsqueeze(1)
