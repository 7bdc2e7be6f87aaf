"""A decoder that paints hidden patches, or cubes, from what an encoder made of the seen ones.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377, §3.

Legend: B rows, L patches of V values, K kept ones, C leading tokens, D width of the encoder.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock

from models.encoders.vit import draw_weights, layer_norm
from models.method import MethodOptions


@dataclass(frozen=True)
class MaskedOptions(MethodOptions):
    """What masked autoencoders share.

    Attributes:
        mask_share: share of the patches that the encoder does not see.
        decoder_dim: width of the decoder.
        decoder_depth: its blocks.
        decoder_heads: heads of each block's attention.
        normalize_patches: bring the pixels of each patch to mean 0 and variance 1 before they are
            compared, as the papers' best results do.
    """

    mask_share: float = 0.75
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    normalize_patches: bool = True

    def __post_init__(self) -> None:
        self._check_counts("decoder_dim", "decoder_depth", "decoder_heads")
        self._check("mask_share", 0 < self.mask_share < 1, "more than 0 and less than 1")
        divides = self.decoder_dim % self.decoder_heads == 0
        self._check("decoder_dim", divides, f"a multiple of decoder_heads = {self.decoder_heads}")


class PatchDecoder(nn.Module):
    """A narrow transformer over all patches: seen ones by their tokens, others by a mask token.

    Args:
        num_values: V.
        features_dim: D.
        options: its width, depth and heads.
        num_leading: C, tokens before those of patches: 1 where there is a class token.
    """

    def __init__(
        self, num_values: int, features_dim: int, options: MaskedOptions, num_leading: int
    ) -> None:
        super().__init__()
        self.width, self.num_leading = options.decoder_dim, num_leading
        self.project = nn.Linear(features_dim, self.width)
        self.mask_token = nn.Parameter(torch.zeros(self.width))
        self.blocks = nn.Sequential(
            *(
                EncoderBlock(
                    options.decoder_heads, self.width, 4 * self.width, 0.0, 0.0, layer_norm
                )
                for _ in range(options.decoder_depth)
            )
        )
        self.norm = layer_norm(self.width)
        self.paint = nn.Linear(self.width, num_values)
        draw_weights(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, places: Tensor, positions: Tensor) -> Tensor:
        """Return pixels of every patch, [B, L, V].

        Args:
            tokens: [B, C + K, D], leading ones first.
            places: int64 [B, L], where each patch is among the kept ones; others behind them.
            positions: [L, width], of the patches.
        """
        first = self.num_leading
        projected = self.project(tokens)  # B × C+K × width
        patches = in_place(projected[:, first:], places, self.mask_token)  # B × L × width
        seen = torch.cat([projected[:, :first], patches + positions.to(patches)], dim=1)
        return cast(Tensor, self.paint(self.norm(self.blocks(seen))))[:, first:]


def in_place(tokens: Tensor, places: Tensor, mask_token: Tensor) -> Tensor:
    """Put kept tokens [B, K, D] at their patches, and the mask token at all others: [B, L, D]."""
    num_rows, num_kept, width = tokens.shape
    masks = mask_token.to(tokens).expand(num_rows, places.shape[1] - num_kept, -1)
    every = torch.cat([tokens, masks], dim=1)  # in the order of noise
    return every.gather(1, places[:, :, None].expand(-1, -1, width))
