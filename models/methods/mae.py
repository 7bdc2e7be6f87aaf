"""MAE: paint the patches that an encoder did not see, from the quarter of them that it did.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377, §3. The
loss is the squared error of the hidden patches' pixels, each patch at mean 0 and variance 1.

Legend: B images, L patches, K kept patches, P patch size, D width of the encoder.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torchvision.models.vision_transformer import EncoderBlock

from gdt import Batch, View, global_mean
from models.encoders.vit import VitEncoder, draw_weights, layer_norm, sine_cosine_positions
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class MAEOptions(MethodOptions):
    """`[method]`: a reconstruction of masked patches.

    Attributes:
        name: "mae".
        mask_share: share of the patches that the encoder does not see.
        decoder_dim: width of the decoder.
        decoder_depth: its blocks.
        decoder_heads: heads of each block's attention.
        normalize_patches: bring the pixels of each patch to mean 0 and variance 1 before they are
            compared, as the paper's best results do.
    """

    name: Literal["mae"] = "mae"
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


class MAE(Method):
    """A ViT that sees some of the patches, and a small decoder that paints the others.

    Raises:
        ValueError: an encoder that is no ViT.
    """

    options_type = MAEOptions
    needs = Needs(positives=False, why="MAE hides patches of each row")

    def __init__(self, options: MAEOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        self.decoders = nn.ModuleDict()
        for modality in self.plan.modalities:
            encoder = self.towers.encoder(modality)
            if not isinstance(encoder, VitEncoder):
                raise ValueError(
                    f"MAE hides patches, which a ViT alone has: encoders.{modality} = "
                    f'"{getattr(setting.encoders, modality)}", must be one of "vit_mini", '
                    f'"vit_small", "vit_base", and plan.modality.values = ["image"]'
                )
            self.decoders[modality] = Decoder(
                encoder.trunk.patch_size, encoder.embedding_dim, options
            )

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar."""
        errors = [self._errors(view) for view in self.towers.views(batch)]
        return Losses(global_mean(torch.cat(errors)))

    def draw_noise(self, num_rows: int, num_patches: int) -> Tensor:
        """Draw what decides which patches are kept, from torch's generator: [B, L]."""
        return torch.rand(num_rows, num_patches)  # on the CPU: the same on any device

    def _errors(self, view: View) -> Tensor:
        """Return the mean squared error of each hidden patch."""
        encoder = cast(VitEncoder, self.towers.encoder(view.modality))
        encoder.check(view.values)
        grid = encoder.trunk.grid(view.values)  # h, w
        noise = self.draw_noise(len(view), grid[0] * grid[1]).to(view.values.device)
        kept, hidden, places = random_masking(noise, self.options.mask_share)
        tokens = encoder.trunk(view.values, kept)  # B × 1+K × D
        predicted = self.decoders[view.modality](tokens, places, grid)  # B × L × P·P·3
        with torch.autocast(tokens.device.type, enabled=False):
            errors = patch_errors(
                at_least_float32(predicted),
                at_least_float32(view.values),
                encoder.trunk.patch_size,
                normalize=self.options.normalize_patches,
            )
        return errors[hidden]


class Decoder(nn.Module):
    """A narrow transformer over all patches: seen ones by their tokens, others by a mask token.

    Args:
        patch_size: P.
        features_dim: D.
        options: its width, depth and heads.
    """

    def __init__(self, patch_size: int, features_dim: int, options: MAEOptions) -> None:
        super().__init__()
        self.width, heads = options.decoder_dim, options.decoder_heads
        self.project = nn.Linear(features_dim, self.width)
        self.mask_token = nn.Parameter(torch.zeros(self.width))
        self.blocks = nn.Sequential(
            *(
                EncoderBlock(heads, self.width, 4 * self.width, 0.0, 0.0, layer_norm)
                for _ in range(options.decoder_depth)
            )
        )
        self.norm = layer_norm(self.width)
        self.paint = nn.Linear(self.width, 3 * patch_size**2)
        draw_weights(self)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return pixels of every patch, [B, L, P·P·3], by row, column and channel.

        Args:
            tokens: [B, 1 + K, D], the class token first.
            places: int64 [B, L], see `random_masking`.
            grid: rows and columns of patches, L together.
        """
        projected = self.project(tokens)  # B × 1+K × width
        patches = in_place(projected[:, 1:], places, self.mask_token)  # B × L × width
        patches = patches + sine_cosine_positions(*grid, self.width).to(patches)
        seen = torch.cat([projected[:, :1], patches], dim=1)
        return cast(Tensor, self.paint(self.norm(self.blocks(seen))))[:, 1:]


def random_masking(noise: Tensor, mask_share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Keep the patches with the least noise, in the order of their noise.

    Args:
        noise: [B, L].
        mask_share: share of the patches that is hidden.

    Returns:
        Kept patches, int64 [B, K]; which are hidden, bool [B, L]; and the place of each patch in
        the order of noise, int64 [B, L].

    Raises:
        ValueError: none would be kept.
    """
    num_patches = noise.shape[1]
    num_kept = int(num_patches * (1 - mask_share))
    if num_kept < 1:
        raise ValueError(
            f"method.mask_share = {mask_share} of {num_patches} patches leaves none to see: take "
            "larger images, a smaller encoders.patch_size, or a smaller share"
        )
    order = noise.argsort(dim=1)
    places = order.argsort(dim=1)
    return order[:, :num_kept], places >= num_kept, places


def in_place(tokens: Tensor, places: Tensor, mask_token: Tensor) -> Tensor:
    """Put kept tokens [B, K, D] at their patches, and the mask token at all others: [B, L, D]."""
    num_rows, num_kept, width = tokens.shape
    masks = mask_token.to(tokens).expand(num_rows, places.shape[1] - num_kept, -1)
    every = torch.cat([tokens, masks], dim=1)  # in the order of noise
    return every.gather(1, places[:, :, None].expand(-1, -1, width))


def patches_of(images: Tensor, patch_size: int) -> Tensor:
    """Cut images [B, 3, H, W] into patches [B, L, P·P·3], by row, column and channel."""
    pieces = images.unfold(2, patch_size, patch_size).unfold(3, patch_size, patch_size)
    return pieces.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)  # B × h·w × P·P·3


def patch_errors(predicted: Tensor, images: Tensor, patch_size: int, *, normalize: bool) -> Tensor:
    """Return the mean squared error of each patch, [B, L].

    Args:
        predicted: [B, L, P·P·3].
        images: [B, 3, H, W].
        patch_size: P.
        normalize: compare with patches of mean 0 and (unbiased) variance 1.
    """
    target = patches_of(images, patch_size)
    if normalize:
        variance, mean = torch.var_mean(target, dim=2, keepdim=True)
        target = (target - mean) / (variance + 1e-6).sqrt()
    return (predicted - target).square().mean(dim=2)
