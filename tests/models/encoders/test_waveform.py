"""CPC's waveform encoder: lengths and the norm over channels are the authors'."""

import pytest
import torch

from models.encoders import ENCODERS
from models.encoders.waveform import ChannelNorm
from tests.models.golden_numbers import close, golden, tensor


def test_the_norm_equals_the_authors() -> None:
    given, expected = golden("cpc", "channel_norm")
    norm = ChannelNorm(4).double()
    norm.load_state_dict({key: tensor(given[key]) for key in ("weight", "bias")})
    x = tensor(given["x"]).requires_grad_()
    y = norm(x)
    close(y, expected["y"])
    y.pow(3).sum().backward()
    assert x.grad is not None
    close(x.grad, expected["grad_x"])


def test_lengths_are_the_authors() -> None:
    _, expected = golden("cpc", "encoder_lengths")
    encoder = ENCODERS["audio"].build("waveform_cnn_small")
    for samples, length in expected.items():
        assert encoder.maps(torch.zeros(1, 1, int(samples))).shape == (1, 64, length)
    assert encoder(torch.randn(2, 1, 1600)).shape == (2, encoder.embedding_dim)


def test_a_spectrogram_is_refused() -> None:
    encoder = ENCODERS["audio"].build("waveform_cnn_small")
    with pytest.raises(
        ValueError, match=r"takes a tensor of shape \[B, 1, S\], got \[2, 1, 40, 99\]"
    ):
        encoder(torch.zeros(2, 1, 40, 99))
