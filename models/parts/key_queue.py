"""A queue of earlier rows with their codes: MoCo's negatives, first in, first out.

Legend: K entries, P rows that come, D embedding, M factors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Plan


class KeyQueue(nn.Module):
    """The last K rows that were put in, each with the codes of its transformation.

    It begins with random unit vectors, as in the authors' code of MoCo, of no sample.

    Args:
        size: K.
        dim: D.
        plan: says how many columns the codes have, and which is the sample's.
    """

    rows: Tensor  # K × D
    codes: Tensor  # K × M, sample code −1 where no row has been yet
    pointer: Tensor  # scalar: the entry that the next row replaces

    def __init__(self, size: int, dim: int, plan: Plan) -> None:
        super().__init__()
        codes = torch.zeros(size, len(plan.names), dtype=torch.int64)
        self._sample = plan.names.index("sample")
        codes[:, self._sample] = -1
        self.register_buffer("rows", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("codes", codes)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def __len__(self) -> int:
        """K."""
        return len(self.rows)

    @property
    def is_full(self) -> bool:
        """Whether every entry is of a sample."""
        return bool((self.codes[:, self._sample] >= 0).all())

    @torch.no_grad()
    def put(self, rows: Tensor, codes: Tensor) -> None:
        """Replace the oldest entries by these rows, from the pointer on and around the end.

        Args:
            rows: float [P, D], in the order in which they came, the same on every rank.
            codes: int64 [P, M].
        """
        size = len(self)
        rows, codes = rows[-size:], codes[-size:]  # more than fit: the last stay
        entries = (self.pointer + torch.arange(len(rows), device=rows.device)) % size
        self.rows.index_copy_(0, entries, rows.to(self.rows.dtype))  # K × D
        self.codes.index_copy_(0, entries, codes)  # K × M
        self.pointer.add_(len(rows)).remainder_(size)
