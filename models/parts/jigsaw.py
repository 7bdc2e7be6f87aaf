"""A jigsaw: pieces of a picture in random order, encoded one by one, told as one vector.

Noroozi & Favaro 2016 (arXiv:1603.09246), in the form of PIRL (Misra & van der Maaten, CVPR 2020,
arXiv:1912.01991, §3.2): the order is drawn anew for every row.

Legend: B rows, P pieces of each, E features, D embedding.
"""

import torch
from torch import Tensor, nn

from gdt import View, normalize
from models.towers import Towers, at_least_float32


class Jigsaw(nn.Module):
    """A head for each piece, and one for all of them behind one another.

    Args:
        piece_head: maps the features of a piece [N, E] to [N, D].
        dim: D.
        num_pieces: P.
    """

    def __init__(self, piece_head: nn.Module, dim: int, num_pieces: int) -> None:
        super().__init__()
        self.num_pieces = num_pieces
        self.piece_head = piece_head
        self.together = nn.Linear(num_pieces * dim, dim)

    def embed(self, towers: Towers, view: View) -> Tensor:
        """Embed rows that are cut into pieces, [B, D] of length 1.

        Args:
            towers: their encoder.
            view: values [B, P, …].

        Raises:
            ValueError: rows without pieces, or with another number of them.
        """
        values = view.values
        dims = len(towers.encoder(view.modality).input_shape)
        got = values.shape[1] if values.ndim == dims + 1 else 1
        if got != self.num_pieces or values.ndim != dims + 1:
            raise ValueError(
                f"a jigsaw of method.num_pieces = {self.num_pieces} pieces of {view.modality}, and "
                f"the rows have {got}: give that view `grid = n` with n · n pieces, in the `views` "
                "of [image_augment] or [video_augment]"
            )
        features = towers.features(view.modality, values.flatten(0, 1))  # B·P × E
        pieces = self.piece_head(features).unflatten(0, (len(view), got))  # B × P × D
        order = self.draw_orders(len(view)).to(pieces.device)
        pieces = pieces.gather(1, order[:, :, None].expand_as(pieces))
        return normalize(at_least_float32(self.together(pieces.flatten(1))))

    def draw_orders(self, num_rows: int) -> Tensor:
        """Draw in which order the pieces of each row lie, from torch's generator: int64 [B, P]."""
        return torch.rand(num_rows, self.num_pieces).argsort(dim=1)  # on the CPU: alike anywhere
