"""Vision transformers over cubes of a clip: some frames of a patch as one token, fixed positions.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022, arXiv:2203.12602, §3: joint attention over space and time, no class
token, positions of a sine and cosine over the tokens' numbers.

Legend: B clips, T frames, L tokens, P patch size, D width, t × h × w cubes.
"""

import math
from collections.abc import Sequence
from typing import Final, cast

from torch import Tensor, nn

from models.encoders.encoder import Encoder
from models.encoders.text import positions
from models.encoders.vit import draw_weights, layer_norm, transformer_blocks

#: Frames of a cube.
TUBELET: Final = 2


class CubeTransformer(nn.Module):
    """Cubes of a clip as tokens through transformer blocks and a last layer norm.

    Args:
        patch_size: P.
        width: D.
        depth: blocks.
        num_heads: of each block's attention.
        drop_path: see `vit.transformer_blocks`.
    """

    def __init__(
        self, patch_size: int, width: int, depth: int, num_heads: int, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        self.patch_size, self.width = patch_size, width
        cube = (TUBELET, patch_size, patch_size)
        #: Sides of a cube, and how many tokens come before those of cubes.
        self.channels, self.patch, self.num_leading = 3, cube, 0
        self.cube_projection = nn.Conv3d(3, width, kernel_size=cube, stride=cube)
        self.blocks = transformer_blocks(width, depth, num_heads, drop_path)
        self.norm = layer_norm(width)
        draw_weights(self.blocks)
        weight = self.cube_projection.weight
        nn.init.xavier_uniform_(weight.flatten(1))
        assert self.cube_projection.bias is not None
        nn.init.zeros_(self.cube_projection.bias)

    def forward(self, clips: Tensor, kept: Tensor | None = None) -> Tensor:
        """Encode clips [B, 3, T, H, W].

        Args:
            clips: frames and sides that the cubes divide.
            kept: int64 [B, K], the cubes that are seen, in this order; all by default.

        Returns:
            [B, L, D], by time, row and column; L = K or t·h·w.

        Raises:
            ValueError: cubes do not divide the clips.
        """
        grid = self.grid(clips)
        tokens = self.cube_projection(clips).flatten(2).transpose(1, 2)  # B × t·h·w × D
        tokens = tokens + self.positions(grid, self.width).to(tokens)
        if kept is not None:
            tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, self.width))  # B × K × D
        return cast(Tensor, self.norm(self.blocks(tokens)))

    @staticmethod
    def positions(grid: Sequence[int], dim: int) -> Tensor:
        """Return the position of each cube of a grid (t, h, w), in a width: [L, dim]."""
        return positions(math.prod(grid), dim)

    def grid(self, clips: Tensor) -> tuple[int, int, int]:
        """Return (t, h, w), the cubes of clips [B, 3, T, H, W].

        Raises:
            ValueError: cubes do not divide the clips.
        """
        frames, height, width = clips.shape[-3:]
        if frames % TUBELET or height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"a ViT with cubes of {TUBELET} frames and {self.patch_size} pixels takes clips "
                f"that it divides, got {frames} frames of {height}×{width}: set "
                "segment.num_frames and video_augment.size to multiples, or encoders.patch_size "
                "to a divisor"
            )
        return frames // TUBELET, height // self.patch_size, width // self.patch_size


class MeanToken(nn.Module):
    """The pool of a transformer without class token: the mean of its tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens [B, L, D] → [B, D]."""
        return tokens.mean(dim=1)


class VideoVitEncoder(Encoder):
    """A ViT of clips as an encoder: the mean of its tokens is the vector, they are the map."""

    trunk: CubeTransformer

    def __init__(self, transformer: CubeTransformer) -> None:
        shape = ("B", 3, "T", "H", "W")
        super().__init__(transformer, MeanToken(), transformer.width, shape)

    def forward(self, values: Tensor) -> Tensor:
        """Encode clips [B, 3, T, H, W] → means of tokens [B, D]."""
        self.check(values)
        return cast(Tensor, self.pool(self.trunk(values)))

    def maps(self, values: Tensor) -> Tensor:
        """Encode clips [B, 3, T, H, W] → tokens as maps [B, D, t, h, w]."""
        self.check(values)
        tokens = self.trunk(values).transpose(1, 2)  # B × D × t·h·w
        return cast(Tensor, tokens.unflatten(2, self.trunk.grid(values)))


def video_vit_small(*, patch_size: int = 16, drop_path: float = 0.0) -> Encoder:
    """Return a ViT-S of cubes: 12 blocks of 6 heads, 384 features, 21.9 M weights."""
    return VideoVitEncoder(CubeTransformer(patch_size, 384, 12, 6, drop_path))


def video_vit_base(*, patch_size: int = 16, drop_path: float = 0.0) -> Encoder:
    """Return a ViT-B of cubes: 12 blocks of 12 heads, 768 features, 86.2 M weights."""
    return VideoVitEncoder(CubeTransformer(patch_size, 768, 12, 12, drop_path))


def video_vit_mini(*, patch_size: int = 8, drop_path: float = 0.0) -> Encoder:
    """Return a ViT of cubes for CPUs: 4 blocks of 4 heads, 128 features, 0.8 M weights."""
    return VideoVitEncoder(CubeTransformer(patch_size, 128, 4, 4, drop_path))
