"""Vision transformers: patches of an image as tokens, with fixed sine-cosine positions.

Dosovitskiy et al. 2021 (arXiv:2010.11929); positions and initial weights as in MoCo v3 (Chen et al.
2021, arXiv:2104.02057, §4) and MAE, whose encoder sees some of the tokens only.

Legend: B images, L tokens, P patch size, D width, h × w patches.
"""

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock

from models.encoders.encoder import Encoder

layer_norm: Callable[..., nn.Module] = partial(nn.LayerNorm, eps=1e-6)


def sine_cosine_positions(height: int, width: int, dim: int, temperature: float = 1e4) -> Tensor:
    """Return the position of each patch, float32 [height·width, dim], row by row.

    A quarter each of sin and cos of the column, then of the row, at frequencies from 1 down to
    1 / temperature.

    Raises:
        ValueError: dim is no multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"positions in two dimensions need a width divisible by 4, got {dim}")
    frequencies = temperature ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    waves = [places.reshape(-1, 1) * frequencies for places in (columns, rows)]
    parts = [wave(angles) for angles in waves for wave in (torch.sin, torch.cos)]
    return torch.cat(parts, dim=1).float()


def draw_weights(network: nn.Module) -> None:
    """Draw weights as MoCo v3 does: Xavier uniform, queries, keys and values each alone.

    Args:
        network: of linear layers and attention, which are drawn; the rest stays.
    """
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            bound = (6 / (2 * module.embed_dim)) ** 0.5  # of one of three D × D matrices
            nn.init.uniform_(module.in_proj_weight, -bound, bound)
            nn.init.xavier_uniform_(module.out_proj.weight)
            nn.init.zeros_(module.in_proj_bias)
            nn.init.zeros_(module.out_proj.bias)
        elif isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class VisionTransformer(nn.Module):
    """Class token and patch tokens through transformer blocks and a last layer norm.

    Args:
        patch_size: P.
        width: D.
        depth: blocks.
        num_heads: of each block's attention.
        freeze_patch_projection: leave the patch projection as it was drawn.
    """

    def __init__(
        self,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        *,
        freeze_patch_projection: bool = False,
    ) -> None:
        super().__init__()
        self.patch_size, self.width = patch_size, width
        self.patch_projection = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.Sequential(
            *(EncoderBlock(num_heads, width, 4 * width, 0.0, 0.0, layer_norm) for _ in range(depth))
        )
        self.norm = layer_norm(width)
        self._initialise()
        if freeze_patch_projection:
            self.patch_projection.requires_grad_(False)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Encode images [B, 3, H, W].

        Args:
            images: sides that the patch size divides.
            kept: int64 [B, K], the patches that are seen, in this order; all by default.

        Returns:
            [B, 1 + L, D], the class token first; L = K or h·w.

        Raises:
            ValueError: patches do not divide the images.
        """
        tokens = self.patches(images)  # B × h·w × D
        if kept is not None:
            tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, self.width))  # B × K × D
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return cast(Tensor, self.norm(self.blocks(tokens)))

    def patches(self, images: Tensor) -> Tensor:
        """Return the patches as tokens with their positions, [B, h·w, D]."""
        height, width = self.grid(images)
        tokens = self.patch_projection(images).flatten(2).transpose(1, 2)  # B × h·w × D
        positions = sine_cosine_positions(height, width, self.width)
        return cast(Tensor, tokens + positions.to(tokens))

    def grid(self, images: Tensor) -> tuple[int, int]:
        """Return (h, w), the patches of images [B, 3, H, W].

        Raises:
            ValueError: patches do not divide the images.
        """
        height, width = images.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"a ViT with patches of {self.patch_size} pixels takes images whose sides it "
                f"divides, got {height}×{width}: set image_augment.size to a multiple, or "
                "encoders.patch_size to a divisor"
            )
        return height // self.patch_size, width // self.patch_size

    def _initialise(self) -> None:
        draw_weights(self.blocks)
        bound = (6 / (3 * self.patch_size**2 + self.width)) ** 0.5
        nn.init.uniform_(self.patch_projection.weight, -bound, bound)
        if self.patch_projection.bias is not None:
            nn.init.zeros_(self.patch_projection.bias)
        nn.init.normal_(self.class_token, std=1e-6)


class FirstToken(nn.Module):
    """The pool of a transformer: what became of its first token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens [B, L, D] → [B, D]."""
        return tokens[:, 0]


class VitEncoder(Encoder):
    """A ViT as an encoder: its class token is the vector, its patch tokens are the map."""

    trunk: VisionTransformer

    def __init__(self, transformer: VisionTransformer) -> None:
        super().__init__(transformer, FirstToken(), transformer.width, ("B", 3, "H", "W"))

    def forward(self, values: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] → class tokens [B, D]."""
        self.check(values)
        return cast(Tensor, self.pool(self.trunk(values)))

    def maps(self, values: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] → patch tokens as maps [B, D, h, w]."""
        self.check(values)
        tokens = self.trunk(values)[:, 1:]  # B × h·w × D
        return cast(Tensor, tokens.transpose(1, 2).unflatten(2, self.trunk.grid(values)))


def vit_small(*, patch_size: int = 16, freeze_patch_projection: bool = False) -> Encoder:
    """Return the ViT-S of MoCo v3: 12 blocks of 12 heads, 384 features, 21.6 M weights."""
    return _vit(384, 12, 12, patch_size, freeze_patch_projection)


def vit_base(*, patch_size: int = 16, freeze_patch_projection: bool = False) -> Encoder:
    """Return a ViT-B: 12 blocks of 12 heads, 768 features, 85.6 M weights."""
    return _vit(768, 12, 12, patch_size, freeze_patch_projection)


def vit_mini(*, patch_size: int = 8, freeze_patch_projection: bool = False) -> Encoder:
    """Return a ViT for CPUs: 4 blocks of 4 heads, 128 features, 0.8 M weights."""
    return _vit(128, 4, 4, patch_size, freeze_patch_projection)


def _vit(width: int, depth: int, heads: int, patch_size: int, freeze: bool) -> Encoder:
    return VitEncoder(
        VisionTransformer(patch_size, width, depth, heads, freeze_patch_projection=freeze)
    )
