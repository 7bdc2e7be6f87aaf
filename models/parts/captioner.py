"""What writes captions: a decoder over words so far and over what is seen or heard.

Yu et al., "CoCa: Contrastive Captioners are Image-Text Foundation Models", 2022, arXiv:2205.01917,
§3.2: words are encoded without the picture first, each seeing no later one; then layers attend to
the picture, too, which learned queries have pooled.

Legend: B rows, S tokens, L places of a map, C channels, Q queries, D width of the text, V words.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from models.encoders.text import later_tokens


class QueryPool(nn.Module):
    """Learned queries that attend to the places of a map: [B, L, C] → [B, Q, C].

    Args:
        dim: C.
        num_queries: Q.
        num_heads: of the attention.
    """

    def __init__(self, dim: int, num_queries: int, num_heads: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(num_queries, dim) * dim**-0.5)
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm_in, self.norm_out = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, places: Tensor) -> Tensor:
        """Pool places [B, L, C] → [B, Q, C]."""
        seen = self.norm_in(places)
        queries = self.queries.expand(len(places), -1, -1)
        return cast(Tensor, self.norm_out(self.attention(queries, seen, seen)[0]))


class Captioner(nn.Module):
    """Layers over encoded words that attend to what is seen, and a score for each next word.

    Args:
        width: D.
        seen_dim: C, of what is seen.
        vocab_size: V.
        depth: layers.
        num_heads: of each layer's attention.
    """

    def __init__(
        self, width: int, seen_dim: int, vocab_size: int, depth: int, num_heads: int
    ) -> None:
        super().__init__()
        self.project = nn.Linear(seen_dim, width)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                width, num_heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.words = nn.Linear(width, vocab_size, bias=False)

    def forward(self, hidden: Tensor, seen: Tensor) -> Tensor:
        """Score the word that follows each token.

        Args:
            hidden: [B, S, D], of the words so far.
            seen: [B, Q, C].

        Returns:
            Logits [B, S, V].
        """
        seen, later = self.project(seen), later_tokens(hidden.shape[1], hidden.device)
        for layer in self.layers:
            hidden = layer(hidden, seen, tgt_mask=later)
        return cast(Tensor, self.words(self.norm(hidden)))


def places_of(maps: Tensor) -> Tensor:
    """Lay out maps [B, C, …] as places [B, L, C]."""
    return maps.flatten(2).transpose(1, 2)


def word_log_probs(log_probs: Tensor, words: Tensor) -> Tensor:
    """Return the logarithm of each word's probability, [B, S]; 0 where there is none.

    Args:
        log_probs: [B, S, V].
        words: int64 [B, S]; 0 is the padding.
    """
    found = log_probs.gather(2, words[:, :, None])[:, :, 0]
    return found.masked_fill(words == 0, 0.0)


@torch.no_grad()
def most_likely_words(
    next_logits: Callable[[Tensor], Tensor], first: Tensor, last: int, max_tokens: int
) -> Tensor:
    """Write captions word by word, each the most likely one.

    Args:
        next_logits: tokens so far int64 [B, S] → scores of the next word, [B, V].
        first: int64 [B], the token that captions begin with.
        last: the token that ends them.
        max_tokens: of a caption, first and last ones included.

    Returns:
        int64 [B, max_tokens], 0 behind the last token.
    """
    tokens = first[:, None]
    while tokens.shape[1] < max_tokens:
        scores = next_logits(tokens)
        scores[:, 0] = -torch.inf  # the padding is no word
        ended = (tokens == last).any(dim=1)
        following = scores.argmax(dim=1).masked_fill(ended, 0)
        tokens = torch.cat([tokens, following[:, None]], dim=1)
    return tokens
