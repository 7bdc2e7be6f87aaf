"""Whitening: the first principal components of rows, each of variance 1, rows of length 1.

What DeepCluster (Caron et al. 2018, arXiv:1807.05520, §3.3) clusters in place of features.

Legend: N rows, E features, D components.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_LEAST_SHARE = 1e-6  # of the greatest variance; a component with less is noise, and is left at 0


@torch.no_grad()
def whitened(rows: Tensor, num_components: int) -> Tensor:
    """Project rows [N, E] onto their first components, of variance 1, and to length 1: [N, D].

    Signs are chosen so that the greatest weight of a component is positive. Numbers are float64 on
    the way.

    Raises:
        ValueError: more components than features.
    """
    if num_components > rows.shape[1]:
        raise ValueError(
            f"{num_components} principal components of {rows.shape[1]} features: lower "
            "method.pca_dim"
        )
    centred = rows.double() - rows.double().mean(dim=0)
    variances, axes = torch.linalg.eigh(centred.T @ centred / len(rows))  # ascending
    variances, axes = variances.flip(0)[:num_components], axes.flip(1)[:, :num_components]
    greatest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    axes = axes * greatest.sign()
    scales = torch.where(
        variances > _LEAST_SHARE * variances[0], variances.clamp_min(1e-300).rsqrt(), 0.0
    )
    return F.normalize(centred @ (axes * scales), dim=1).to(rows)
