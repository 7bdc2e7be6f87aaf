"""What is known so far: networks over a sequence of vectors that see no later one.

Legend: B rows, T moments, D channels in, C channels out.
"""

from typing import Literal, cast

from torch import Tensor, nn

from models.encoders.text import later_tokens, positions

ContextName = Literal["gru", "lstm", "transformer"]
_HEADS = 8


class Recurrent(nn.Module):
    """A GRU or LSTM of one layer: [B, T, D] → [B, T, C].

    Args:
        network: nn.GRU or nn.LSTM.
        dim: D.
        context_dim: C.
    """

    def __init__(self, network: type[nn.GRU | nn.LSTM], dim: int, context_dim: int) -> None:
        super().__init__()
        self.network = network(dim, context_dim, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        """Run over the moments in order."""
        return cast(Tensor, self.network(values)[0])


class Causal(nn.Module):
    """A transformer layer in which a moment sees itself and earlier ones: [B, T, C] → [B, T, C].

    Post-norm, 8 heads, 2048 hidden units, dropout 0.1, as in facebookresearch/CPC_audio; positions
    are those of a sine and cosine here, and relative there.

    Args:
        dim: C, a multiple of 8.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % _HEADS:
            raise ValueError(f"method.context_dim = {dim}, must be a multiple of {_HEADS} heads")
        self.layer = nn.TransformerEncoderLayer(dim, _HEADS, 2048, 0.1, batch_first=True)

    def forward(self, values: Tensor) -> Tensor:
        """Attend, from each moment, to what is not later."""
        length, dim = values.shape[1:]
        later = later_tokens(length, values.device)
        placed = values + positions(length, dim).to(values)
        return cast(Tensor, self.layer(placed, src_mask=later))


def build_context(name: ContextName, dim: int, context_dim: int) -> nn.Module:
    """Return a network over moments [B, T, D] → [B, T, C] that sees no later one."""
    if name == "transformer":
        return nn.Sequential(nn.Linear(dim, context_dim), Causal(context_dim))
    return Recurrent(nn.GRU if name == "gru" else nn.LSTM, dim, context_dim)
