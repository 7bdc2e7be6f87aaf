"""Projection heads: encoder features [B, D_in] → what the loss compares, before normalisation.

The papers' heads differ, and each method takes its own paper's.
"""

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
