"""What objects do to each other: a graph network that says how an action changes their states.

Kipf et al., "Contrastive Learning of Structured World Models", ICLR 2020, arXiv:1911.12247, §3.3.

Legend: B rows, K objects, D state of an object, A actions of an object, H hidden units.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def object_mlp(dim_in: int, hidden_dim: int, dim_out: int) -> nn.Sequential:
    """Return Linear, ReLU, Linear, LayerNorm, ReLU, Linear: what the paper's networks are."""
    return nn.Sequential(
        nn.Linear(dim_in, hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, hidden_dim),
        nn.LayerNorm(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, dim_out),
    )


class ObjectGraph(nn.Module):
    """A message from each object to each other one, and a change of each object's state.

    Args:
        dim: D.
        hidden_dim: H.
        num_actions: A; 0 where nothing is done.
    """

    def __init__(self, dim: int, hidden_dim: int, num_actions: int) -> None:
        super().__init__()
        self.edge_mlp = object_mlp(2 * dim, hidden_dim, hidden_dim)
        self.node_mlp = object_mlp(dim + num_actions + hidden_dim, hidden_dim, dim)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        """Return the change of states.

        Args:
            states: [B, K, D].
            actions: [B, K, A], done to each object.

        Returns:
            [B, K, D].
        """
        count = states.shape[1]
        pairs = states[:, :, None], states[:, None]
        own, other = (part.expand(-1, count, count, -1) for part in pairs)
        messages = self.edge_mlp(torch.cat([own, other], dim=3))  # B × K × K × H
        apart = 1 - torch.eye(count, dtype=messages.dtype, device=messages.device)
        heard = torch.einsum("bkjh,kj->bkh", messages, apart)
        return cast(Tensor, self.node_mlp(torch.cat([states, actions, heard], dim=2)))


def actions_on_objects(actions: Tensor, num_objects: int, num_actions: int) -> Tensor:
    """Say of each action which object it is done to, and how: float [B, K, A].

    Args:
        actions: int64 [B], A · object + which.
        num_objects: K.
        num_actions: A, of one object.
    """
    return F.one_hot(actions, num_objects * num_actions).view(-1, num_objects, num_actions)
