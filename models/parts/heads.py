"""Projection heads: encoder features [B, D_in] → what the loss compares, before normalisation.

The papers' heads differ, and each method takes its own paper's.
"""

import itertools

from torch import nn


def gdt_head(features_dim: int, hidden_dim: int, embedding_dim: int, dropout: float) -> nn.Module:
    """Return the head of the GDT code: Linear without bias, BatchNorm, ReLU, Linear.

    With dropout > 0 the features and the hidden layer are each dropped out first, as that code does
    (there with 0.3).
    """
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(features_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, embedding_dim),
    )


def simclr_head(
    features_dim: int, hidden_dim: int, embedding_dim: int, dropout: float
) -> nn.Module:
    """Return SimCLR's head g: two linear layers, each with BatchNorm and no bias, ReLU between.

    Chen et al. 2020, arXiv:2002.05709, §2.1; the BatchNorms are those of the authors' code.
    """
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(features_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, embedding_dim, bias=False),
        nn.BatchNorm1d(embedding_dim),
    )


def moco_head(features_dim: int, hidden_dim: int, embedding_dim: int, dropout: float) -> nn.Module:
    """Return the head of MoCo v2: Linear, ReLU, Linear, with biases and without BatchNorm.

    Chen et al. 2020, arXiv:2003.04297, §3 ("a 2-layer MLP head").
    """
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(features_dim, hidden_dim),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, embedding_dim),
    )


def norm_mlp(*dims: int, last_norm: bool) -> nn.Module:
    """Return linear layers without bias, each followed by BatchNorm and ReLU but the last.

    The projectors of SimSiam, Barlow Twins and MoCo v3, and MoCo v3's predictor. (The last layer of
    SimSiam's code has a frozen bias, which the BatchNorm after it cancels.)

    Args:
        dims: width of the features, of each hidden layer, and of the output.
        last_norm: a BatchNorm without scale and offset at the end.
    """
    layers: list[nn.Module] = []
    for dim_in, dim_out in itertools.pairwise(dims[:-1]):
        layers += [
            nn.Linear(dim_in, dim_out, bias=False),
            nn.BatchNorm1d(dim_out),
            nn.ReLU(inplace=True),
        ]
    layers.append(nn.Linear(dims[-2], dims[-1], bias=False))
    if last_norm:
        layers.append(nn.BatchNorm1d(dims[-1], affine=False))
    return nn.Sequential(*layers)


def simsiam_predictor(embedding_dim: int, hidden_dim: int) -> nn.Module:
    """Return SimSiam's predictor: Linear without bias, BatchNorm, ReLU, Linear.

    Chen & He 2021, arXiv:2011.10566, §3; a bottleneck.
    """
    return nn.Sequential(
        nn.Linear(embedding_dim, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, embedding_dim),
    )


def byol_head(features_dim: int, hidden_dim: int, embedding_dim: int) -> nn.Module:
    """Return BYOL's projector, and its predictor: Linear, BatchNorm, ReLU, Linear without bias.

    Grill et al. 2020, arXiv:2006.07733, §3.3.
    """
    return nn.Sequential(
        nn.Linear(features_dim, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, embedding_dim, bias=False),
    )


def swav_head(features_dim: int, hidden_dim: int, embedding_dim: int) -> nn.Module:
    """Return SwAV's projection head: Linear, BatchNorm, ReLU, Linear, with biases.

    Caron et al. 2020, arXiv:2006.09882; layers as in the authors' code.
    """
    return nn.Sequential(
        nn.Linear(features_dim, hidden_dim),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, embedding_dim),
    )
