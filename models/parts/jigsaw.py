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
        pieces = pieces_of(towers, view, self.num_pieces)
        features = towers.features(view.modality, pieces)  # B·P × E
        rows = in_random_order(self.piece_head(features).unflatten(0, (-1, self.num_pieces)))
        return normalize(at_least_float32(self.together(rows.flatten(1))))


def pieces_of(towers: Towers, view: View, num_pieces: int) -> Tensor:
    """Return the pieces of a view as rows of their own, row by row: [B·P, …].

    Args:
        towers: their encoder, which says what a row is.
        view: values [B, P, …].
        num_pieces: P.

    Raises:
        ValueError: rows without pieces, or with another number of them.
    """
    is_cut = view.values.ndim == len(towers.encoder(view.modality).input_shape) + 1
    got = view.values.shape[1] if is_cut else 1
    if not is_cut or got != num_pieces:
        raise ValueError(
            f"a jigsaw of method.num_pieces = {num_pieces} pieces of {view.modality}, and the rows "
            f"have {got}: give that view `grid = n` with n · n pieces, in the `views` of "
            "[image_augment] or [video_augment]"
        )
    return view.values.flatten(0, 1)


def in_random_order(pieces: Tensor) -> Tensor:
    """Return the pieces of each row [B, P, D] in an order of its own."""
    order = draw_orders(*pieces.shape[:2]).to(pieces.device)
    return pieces.gather(1, order[:, :, None].expand_as(pieces))


def draw_orders(num_rows: int, num_pieces: int) -> Tensor:
    """Draw in which order the pieces of each row lie, from torch's generator: int64 [B, P]."""
    return torch.rand(num_rows, num_pieces).argsort(dim=1)  # on the CPU: alike on any device
