"""Audio encoders over waveforms [B, 1, S]: CPC's convolutions, one vector for every 160 samples.

van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
arXiv:1807.03748, §3.1, with the norm over channels of facebookresearch/CPC_audio (Rivière et al.
2020, arXiv:2002.02848, §3): at 16 kHz a vector every 10 ms.

Legend: B rows, S audio samples, C channels, T = S / 160 vectors.
"""

import torch
from torch import Tensor, nn

from models.encoders.encoder import Encoder

#: kernel, stride and padding of each convolution
_LAYERS = ((10, 5, 3), (8, 4, 2), (4, 2, 1), (4, 2, 1), (4, 2, 1))


class ChannelNorm(nn.Module):
    """Bring the channels of each moment to mean 0 and (unbiased) variance 1, then scale and shift.

    Args:
        num_channels: C.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, values: Tensor) -> Tensor:
        """Normalise [B, C, T]."""
        variance, mean = torch.var_mean(values, dim=1, keepdim=True)
        normalised = (values - mean) * torch.rsqrt(variance + 1e-5)
        return normalised * self.weight[:, None] + self.bias[:, None]


def waveform_cnn() -> Encoder:
    """Return CPC's encoder: 256 channels, 1.3 M weights."""
    return _waveform_cnn(256)


def waveform_cnn_small() -> Encoder:
    """Return the same with 64 channels, 0.08 M weights, for CPUs."""
    return _waveform_cnn(64)


def _waveform_cnn(num_channels: int) -> Encoder:
    layers: list[nn.Module] = []
    for number, (kernel, stride, padding) in enumerate(_LAYERS):
        inputs = num_channels if number else 1
        layers += [
            nn.Conv1d(inputs, num_channels, kernel, stride, padding),
            ChannelNorm(num_channels),
            nn.ReLU(inplace=True),
        ]
    pool = nn.AdaptiveAvgPool1d(1)
    return Encoder(nn.Sequential(*layers), pool, num_channels, ("B", 1, "S"))
