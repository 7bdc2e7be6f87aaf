"""Projection heads: encoder features [B, D_in] → what the loss compares, before normalisation.

The papers' heads differ, and each method takes its own paper's.
"""

import itertools
from collections.abc import Sequence
from typing import Final

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


def mlp_head(
    features_dim: int, hidden_dim: int, embedding_dim: int, num_layers: int = 2
) -> nn.Sequential:
    """Return linear layers with ReLU between: AVID's head of three, SeLaVi's classifier of two."""
    widths = [features_dim, *[hidden_dim] * (num_layers - 1), embedding_dim]
    layers: list[nn.Module] = []
    for dim_in, dim_out in itertools.pairwise(widths):
        layers += [nn.Linear(dim_in, dim_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


#: Modules of each hidden layer of SimCLR's head.
SIMCLR_LAYER: Final = 4


def simclr_layers(widths: Sequence[int], dropout: float) -> list[nn.Module]:
    """Return the hidden layers of SimCLR's head, `SIMCLR_LAYER` modules each.

    Args:
        widths: of the features, and of each layer.
        dropout: probability with which a layer's inputs are dropped.
    """
    layers: list[nn.Module] = []
    for dim_in, dim_out in itertools.pairwise(widths):
        layers += [
            nn.Dropout(dropout),
            nn.Linear(dim_in, dim_out, bias=False),
            nn.BatchNorm1d(dim_out),
            nn.ReLU(inplace=True),
        ]
    return layers


def simclr_head(
    features_dim: int, hidden_dim: int, embedding_dim: int, dropout: float, num_layers: int = 2
) -> nn.Sequential:
    """Return SimCLR's head g: linear layers, each with BatchNorm and no bias, ReLU between.

    Chen et al. 2020, arXiv:2002.05709, §2.1, two layers; v2 (arXiv:2006.10029) three. The
    BatchNorms are those of the authors' code, the last without offset: it stays 0.
    """
    widths = [features_dim] + [hidden_dim] * (num_layers - 1)
    layers = simclr_layers(widths, dropout)
    last = nn.BatchNorm1d(embedding_dim)
    last.bias.requires_grad_(False)
    return nn.Sequential(
        *layers, nn.Dropout(dropout), nn.Linear(widths[-1], embedding_dim, bias=False), last
    )


def moco_head(
    features_dim: int, hidden_dim: int | None, embedding_dim: int, dropout: float
) -> nn.Module:
    """Return the head of MoCo v2: Linear, ReLU, Linear, with biases and without BatchNorm.

    Chen et al. 2020, arXiv:2003.04297, §3 ("a 2-layer MLP head"). Without a hidden layer it is that
    of v1 (arXiv:1911.05722, §3.3), one Linear.
    """
    if hidden_dim is None:
        return nn.Sequential(nn.Dropout(dropout), nn.Linear(features_dim, embedding_dim))
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


def dino_head(features_dim: int, hidden_dim: int, embedding_dim: int) -> nn.Module:
    """Return DINO's head up to its last layer: three linear layers, GELU between.

    Caron et al. 2021, arXiv:2104.14294, §3.1; initial weights as in the authors' code.
    """
    head = nn.Sequential(
        nn.Linear(features_dim, hidden_dim),
        nn.GELU(),
        nn.Linear(hidden_dim, hidden_dim),
        nn.GELU(),
        nn.Linear(hidden_dim, embedding_dim),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return head


def deepcluster_head(features_dim: int, hidden_dim: int, dropout: float) -> nn.Module:
    """Return the classifier of DeepCluster's AlexNet without its last ReLU and its top layer.

    Caron et al. 2018, arXiv:1807.05520, §4; layers and initial weights as in the authors' code.
    """
    head = nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(features_dim, hidden_dim),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden_dim, hidden_dim),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    return head


def conv_head(features_dim: int, hidden_dim: int, embedding_dim: int) -> nn.Module:
    """Return PixPro's projector of maps: 1×1 convolution, BatchNorm, ReLU, 1×1 convolution.

    Xie et al. 2021, arXiv:2011.10043, §3; layers as in the authors' code.
    """
    return nn.Sequential(
        nn.Conv2d(features_dim, hidden_dim, kernel_size=1),
        nn.BatchNorm2d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden_dim, embedding_dim, kernel_size=1),
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
