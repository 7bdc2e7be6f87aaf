"""Vision transformers: patches of an image, or of a spectrogram, as tokens at fixed positions.

Dosovitskiy et al. 2021 (arXiv:2010.11929); positions and initial weights as in MoCo v3 (Chen et al.
2021, arXiv:2104.02057, §4) and MAE, whose encoder sees some of the tokens only.

Legend: B rows, L tokens, C channels, P patch size, D width, h × w patches.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock
from torchvision.ops import StochasticDepth

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


class Rows(NamedTuple):
    """What a ViT sees.

    Attributes:
        shape: of a batch, as `Encoder.input_shape`.
        fix: what to set where patches do not divide it.
        cut_last: leave out what fills no patch at the end of the last dimension.
    """

    shape: tuple[int | str, ...]
    fix: str
    cut_last: bool = False


IMAGES: Final = Rows(("B", 3, "H", "W"), "image_augment.size to a multiple")
SPECTROGRAMS: Final = Rows(
    ("B", 1, "F", "L"), "log_mel.num_mels to a multiple, and seconds to more", cut_last=True
)


class VitSize(NamedTuple):
    """Width D, blocks, heads of each, and the side of a patch unless another is asked for."""

    width: int
    depth: int
    num_heads: int
    patch_size: int


#: By the end of its name: MoCo v3's ViT-S with 12 heads (21.6 M weights of images), ViT-B (85.6 M),
#: and one for CPUs (0.8 M).
VIT_SIZES: Final = {
    "small": VitSize(384, 12, 12, 16),
    "base": VitSize(768, 12, 12, 16),
    "mini": VitSize(128, 4, 4, 8),
}


class VisionTransformer(nn.Module):
    """Class token and patch tokens through transformer blocks and a last layer norm.

    Args:
        rows: what it sees.
        patch_size: P.
        width: D.
        depth: blocks.
        num_heads: of each block's attention.
        freeze_patch_projection: leave the patch projection as it was drawn.
        drop_path: see `transformer_blocks`.
    """

    def __init__(
        self,
        rows: Rows,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        *,
        freeze_patch_projection: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.rows, self.patch_size, self.width = rows, patch_size, width
        #: Sides of a patch, and how many tokens come before those of patches.
        self.channels, self.patch, self.num_leading = int(rows.shape[1]), (patch_size,) * 2, 1
        self.patch_projection = nn.Conv2d(self.channels, width, patch_size, stride=patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = transformer_blocks(width, depth, num_heads, drop_path)
        self.norm = layer_norm(width)
        self._initialise()
        if freeze_patch_projection:
            self.patch_projection.requires_grad_(False)

    def forward(self, values: Tensor, kept: Tensor | None = None) -> Tensor:
        """Encode rows [B, C, H, W].

        Args:
            values: sides that the patches divide.
            kept: int64 [B, K], the patches that are seen, in this order; all by default.

        Returns:
            [B, 1 + L, D], the class token first; L = K or all.

        Raises:
            ValueError: patches do not divide the rows.
        """
        tokens = self.patches(values)  # B × L × D
        if kept is not None:
            tokens = tokens.gather(1, kept[:, :, None].expand(-1, -1, self.width))  # B × K × D
        tokens = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return cast(Tensor, self.norm(self.blocks(tokens)))

    def patches(self, values: Tensor) -> Tensor:
        """Return the patches as tokens with their positions, [B, L, D]."""
        grid = self.grid(values)
        tokens = self.patch_projection(values).flatten(2).transpose(1, 2)  # B × L × D
        return cast(Tensor, tokens + self.positions(grid, self.width).to(tokens))

    @staticmethod
    def positions(grid: Sequence[int], dim: int) -> Tensor:
        """Return the position of each patch of a grid (h, w), in a width: [L, dim]."""
        height, width = grid
        return sine_cosine_positions(height, width, dim)

    def grid(self, values: Tensor) -> tuple[int, int]:
        """Return (h, w): the patches of rows [B, C, H, W].

        Raises:
            ValueError: patches do not divide the rows.
        """
        size, (height, width) = self.patch_size, values.shape[-2:]
        left = width % size and not self.rows.cut_last
        if height % size or left or not min(height // size, width // size):
            raise ValueError(
                f"a ViT with patches of {size}×{size} takes rows whose sides they divide, got "
                f"{height}×{width}: set {self.rows.fix}, or encoders.patch_size to a divisor"
            )
        return height // size, width // size

    def _initialise(self) -> None:
        draw_weights(self.blocks)
        bound = (6 / (self.channels * self.patch_size**2 + self.width)) ** 0.5
        nn.init.uniform_(self.patch_projection.weight, -bound, bound)
        if self.patch_projection.bias is not None:
            nn.init.zeros_(self.patch_projection.bias)
        nn.init.normal_(self.class_token, std=1e-6)


def transformer_blocks(
    width: int, depth: int, num_heads: int, drop_path: float = 0.0
) -> nn.Sequential:
    """Return the blocks of a transformer.

    Args:
        width: D.
        depth: how many.
        num_heads: of each one's attention.
        drop_path: probability with which each half of the last block is left out for a row, in
            training; it rises from 0 in the first block (Huang et al. 2016, arXiv:1603.09382).
    """
    blocks = [EncoderBlock(num_heads, width, 4 * width, 0.0, 0.0, layer_norm) for _ in range(depth)]
    for block, rate in zip(blocks, torch.linspace(0, drop_path, depth).tolist(), strict=True):
        if rate:  # in place of the dropouts at the ends of both halves
            block.dropout = StochasticDepth(rate, "row")
            block.mlp[-1] = StochasticDepth(rate, "row")
    return nn.Sequential(*blocks)


class FirstToken(nn.Module):
    """The pool of a transformer: what became of its first token."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Pool tokens [B, L, D] → [B, D]."""
        return tokens[:, 0]


class VitEncoder(Encoder):
    """A ViT as an encoder: its class token is the vector, its patch tokens are the map.

    Args:
        transformer: the network.
    """

    trunk: VisionTransformer

    def __init__(self, transformer: VisionTransformer) -> None:
        super().__init__(transformer, FirstToken(), transformer.width, transformer.rows.shape)

    def forward(self, values: Tensor) -> Tensor:
        """Encode rows [B, C, H, W] → class tokens [B, D]."""
        self.check(values)
        return cast(Tensor, self.pool(self.trunk(values)))

    def maps(self, values: Tensor) -> Tensor:
        """Encode rows [B, C, H, W] → patch tokens as maps [B, D, h, w]."""
        self.check(values)
        tokens = self.trunk(values)[:, 1:]  # B × L × D
        return cast(Tensor, tokens.transpose(1, 2).unflatten(2, self.trunk.grid(values)))


def vit(rows: Rows, size: VitSize) -> Callable[..., Encoder]:
    """Return what makes a ViT of a size for rows of a kind."""

    def make(
        *,
        patch_size: int = size.patch_size,
        freeze_patch_projection: bool = False,
        drop_path: float = 0.0,
    ) -> Encoder:
        transformer = VisionTransformer(
            rows,
            patch_size,
            *(size.width, size.depth, size.num_heads),
            freeze_patch_projection=freeze_patch_projection,
            drop_path=drop_path,
        )
        return VitEncoder(transformer)

    return make
