"""Text encoders over token numbers [B, S]: small transformers.

Vaswani et al. 2017 (arXiv:1706.03762), with the layer norms before each part (Xiong et al. 2020,
arXiv:2002.04745) and the first token's output as the text's vector, as in BERT. A token is a row of
a table; 0 is the padding, which no token attends to: a caption's vector does not depend on how far
it was padded.

Legend: B texts, S tokens, D width.
"""

from typing import cast

import torch
from torch import Tensor, nn

from models.encoders.encoder import Encoder, EncoderTable
from models.encoders.vit import FirstToken

#: What `gdt tokenizer train` makes unless it is told otherwise.
VOCAB_SIZE = 8192


def positions(length: int, dim: int) -> Tensor:
    """Sine-cosine positions, float32 [length, dim], as in "Attention Is All You Need", §3.5."""
    frequencies = 1e4 ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies  # length x dim/2
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


def later_tokens(length: int, device: torch.device) -> Tensor:
    """Which tokens come later than each one, bool [S, S]: what it must not attend to."""
    return torch.ones(length, length, dtype=torch.bool, device=device).triu(1)


class TextTransformer(nn.Module):
    """Token numbers through transformer blocks and a last layer norm.

    Args:
        vocab_size: rows of the table of tokens.
        width: D.
        depth: blocks.
        num_heads: of each block's attention.
        dropout: share of the values that training sets to 0, of the embedded tokens and in blocks.
    """

    def __init__(
        self, vocab_size: int, width: int, depth: int, num_heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.width = width
        self.tokens = nn.Embedding(vocab_size, width, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, num_heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, *, causal: bool = False) -> Tensor:
        """Encode token numbers int64 [B, S] → [B, S, D]; `causal` ones see no later token."""
        is_padding = tokens == 0
        is_padding[:, 0] = False  # a row must attend to something, even one without a token
        values = self.tokens(tokens)
        places = positions(tokens.shape[1], self.width).to(values)
        values = self.dropout(values + places)  # B × S × D
        later = later_tokens(tokens.shape[1], tokens.device) if causal else None
        for block in self.blocks:
            values = block(values, src_mask=later, src_key_padding_mask=is_padding)
        return cast(Tensor, self.norm(values))


class TextEncoder(Encoder):
    """A transformer as an encoder: its first token is the vector, all of them are the map."""

    def __init__(self, transformer: TextTransformer) -> None:
        super().__init__(transformer, FirstToken(), transformer.width, ("B", "S"))

    def forward(self, values: Tensor) -> Tensor:
        """Encode token numbers [B, S] → first tokens [B, D]."""
        self.check(values)
        return cast(Tensor, self.pool(self.trunk(values)))

    def maps(self, values: Tensor) -> Tensor:
        """Encode token numbers [B, S] → tokens as maps [B, D, S]."""
        self.check(values)
        return cast(Tensor, self.trunk(values).transpose(1, 2))


def text_small(*, vocab_size: int = VOCAB_SIZE, dropout: float = 0.0) -> Encoder:
    """Return a transformer of 6 blocks of 6 heads, 384 features: 10.6 M weights and the table."""
    return TextEncoder(TextTransformer(vocab_size, 384, 6, 6, dropout))


def text_mini(*, vocab_size: int = VOCAB_SIZE, dropout: float = 0.0) -> Encoder:
    """Return a transformer for CPUs: 2 blocks of 4 heads, 128 features, 0.4 M and the table."""
    return TextEncoder(TextTransformer(vocab_size, 128, 2, 4, dropout))


TEXT_ENCODERS = EncoderTable("text", {"text_small": text_small, "text_mini": text_mini})
