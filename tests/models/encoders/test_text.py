"""Text encoders: padding, positions, shapes."""

import math

import pytest
import torch

from models.encoders import EncoderOptions
from models.encoders.text import positions, text_mini, text_small

TOKENS = torch.tensor([[1, 7, 9, 2, 0, 0], [1, 9, 7, 2, 0, 0], [1, 5, 2, 0, 0, 0]])


def test_positions_are_the_papers() -> None:
    table = positions(5, 6)
    for place in range(5):
        for pair in range(3):
            angle = place / 10_000 ** (2 * pair / 6)
            expected = [math.sin(angle), math.cos(angle)]
            assert table[place, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("training", [True, False])
def test_padding_changes_nothing_and_order_does(training: bool) -> None:
    torch.manual_seed(0)
    encoder = text_mini(vocab_size=16).train(training)
    whole = encoder(TOKENS)
    assert whole.shape == (3, 128)
    torch.testing.assert_close(encoder(TOKENS[:, :4]), whole, atol=1e-5, rtol=1e-4)
    assert (whole[0] - whole[1]).abs().max() > 1e-3
    assert encoder.maps(TOKENS).shape == (3, 128, 6)
    torch.testing.assert_close(encoder.maps(TOKENS)[:, :, 0], whole)
    assert encoder(torch.zeros(1, 4, dtype=torch.int64)).isfinite().all()


def test_every_weight_but_the_paddings_learns() -> None:
    encoder = text_mini(vocab_size=10)
    encoder(TOKENS).square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
    (table,) = (p.grad for name, p in encoder.named_parameters() if name.endswith("tokens.weight"))
    assert table is not None
    assert table.abs().sum(1).gt(0).tolist() == [n in (1, 2, 5, 7, 9) for n in range(10)]


def test_blocks_begin_differently() -> None:
    first, second, *_ = text_mini().trunk.blocks  # type: ignore[misc]
    assert not torch.equal(first.linear1.weight, second.linear1.weight)


def test_sizes_are_those_that_are_stated() -> None:
    for encoder, millions in ((text_small(), 10.6), (text_mini(), 0.4)):
        count = sum(p.numel() for p in encoder.parameters()) / 1e6
        assert count - 8192 * encoder.embedding_dim / 1e6 == pytest.approx(millions, abs=0.05)


def test_the_options_say_how_many_tokens() -> None:
    options = EncoderOptions(text="text_mini", vocab_size=300)
    assert options.build("text").trunk.tokens.num_embeddings == 300  # type: ignore[union-attr]
    options.build("audio")  # whose encoders know no tokens
    with pytest.raises(ValueError, match="vocab_size = 1, must be at least 2 tokens"):
        EncoderOptions(vocab_size=1)
    with pytest.raises(ValueError, match="unknown text encoder 'bert'; allowed: text_mini, text_s"):
        EncoderOptions(text="bert")
