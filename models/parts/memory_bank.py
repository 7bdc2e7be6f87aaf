"""A row for every sample of the data set, moved towards what the encoder says of it.

Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", CVPR 2018,
arXiv:1805.01978, §3.

Legend: N samples of the data set, B rows, K drawn entries, D embedding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MemoryBank(nn.Module):
    """N rows, one a sample; as in the authors' code they begin uniform and not normalised.

    With several ranks every rank holds the whole bank, and `update` is given the rows of all of
    them, so that banks stay equal.

    Args:
        num_samples: N.
        dim: D.
        momentum: share of the old row that is kept in an update.
    """

    rows: Tensor  # N × D

    def __init__(self, num_samples: int, dim: int, momentum: float) -> None:
        super().__init__()
        bound = (3 / dim) ** 0.5  # uniform of variance 1/D, as the authors' code draws it
        self.register_buffer("rows", torch.empty(num_samples, dim).uniform_(-bound, bound))
        self.momentum = momentum

    def __len__(self) -> int:
        """N."""
        return len(self.rows)

    def draw(self, num_rows: int, count: int) -> Tensor:
        """Draw entries uniformly with replacement from torch's generator: int64 [B, K]."""
        drawn = torch.randint(len(self), (num_rows, count))  # on the CPU: the same on any device
        return drawn.to(self.rows.device)

    def candidates(self, samples: Tensor, count: int) -> Tensor:
        """Return each sample's own entry, then `count` drawn ones: int64 [B, 1 + K].

        As in the authors' code its own entry may be among the drawn.
        """
        return torch.cat([samples[:, None], self.draw(len(samples), count)], dim=1)

    def scores(self, embeddings: Tensor, entries: Tensor) -> Tensor:
        """Return the products of embeddings [B, D] with each one's entries [B, K]: [B, K]."""
        return torch.einsum("bd,bkd->bk", embeddings, self.rows[entries].to(embeddings))

    @torch.no_grad()
    def update(self, samples: Tensor, embeddings: Tensor) -> None:
        """Move rows towards embeddings, and to length 1.

        Args:
            samples: int64 [B], whose rows; where one comes twice, the last counts.
            embeddings: float [B, D], of length 1.
        """
        kept = self.rows[samples] * self.momentum
        moved = kept + embeddings.to(kept) * (1 - self.momentum)
        moved = F.normalize(moved, dim=1)
        last = {int(sample): row for row, sample in enumerate(samples.tolist())}
        rows = torch.tensor(list(last.values()), dtype=torch.int64, device=samples.device)
        self.rows.index_copy_(0, samples[rows], moved[rows])
