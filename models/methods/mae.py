"""MAE: paint the patches that an encoder did not see, from the quarter of them that it did.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022, arXiv:2111.06377, §3. The
loss is the squared error of the hidden patches' pixels, each patch at mean 0 and variance 1. Rows
are images, clips (each cube is hidden for itself: Feichtenhofer et al. 2022, arXiv:2205.09113; the
same places at all times: videomae.py) or spectrograms (Huang et al. 2022, arXiv:2207.06405).

Legend: B rows, L patches, K kept patches, V values of a patch, D width of the encoder.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from gdt import Batch, View, global_mean
from models.encoders.video_vit import VideoVitEncoder
from models.encoders.vit import VitEncoder
from models.method import Losses, Method, Needs, Setting
from models.parts.patch_decoder import MaskedOptions, PatchDecoder
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class MAEOptions(MaskedOptions):
    """`[method]`: a reconstruction of masked patches.

    Attributes:
        name: "mae".
    """

    name: Literal["mae"] = "mae"


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
            if not isinstance(encoder, VitEncoder | VideoVitEncoder):
                name = "video_vit" if modality == "video" else "vit"
                raise ValueError(
                    f"MAE hides patches, which a ViT alone has: encoders.{modality} = "
                    f'"{getattr(setting.encoders, modality)}", must be one of "{name}_mini", '
                    f'"{name}_small", "{name}_base"; plan.modality.values may name image, video '
                    "and audio"
                )
            trunk = encoder.trunk
            values = trunk.channels * math.prod(trunk.patch)
            self.decoders[modality] = PatchDecoder(
                values, encoder.embedding_dim, options, trunk.num_leading
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
        encoder = cast(VitEncoder | VideoVitEncoder, self.towers.encoder(view.modality))
        encoder.check(view.values)
        grid = encoder.trunk.grid(view.values)  # (t,) h, w
        noise = self.draw_noise(len(view), math.prod(grid)).to(view.values.device)
        kept, hidden, places = random_masking(noise, self.options.mask_share)
        tokens = encoder.trunk(view.values, kept)  # B × (1+)K × D
        positions = encoder.trunk.positions(grid, self.options.decoder_dim)
        predicted = self.decoders[view.modality](tokens, places, positions)  # B × L × V
        with torch.autocast(tokens.device.type, enabled=False):
            errors = patch_errors(
                at_least_float32(predicted),
                at_least_float32(view.values),
                encoder.trunk.patch,
                normalize=self.options.normalize_patches,
            )
        return errors[hidden]


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


def patches_of(rows: Tensor, patch: Sequence[int]) -> Tensor:
    """Cut rows [B, C, (T,) H, W] into patches [B, L, V], by (frame,) row, column and channel.

    What fills no patch at the end of a dimension is left out.
    """
    pieces = rows
    for axis, size in enumerate(patch, start=2):
        pieces = pieces.unfold(axis, size, size)  # … × L × … × size
    return pieces.movedim(1, -1).flatten(len(patch) + 1).flatten(1, -2)


def patch_errors(
    predicted: Tensor, rows: Tensor, patch: Sequence[int], *, normalize: bool
) -> Tensor:
    """Return the mean squared error of each patch, [B, L].

    Args:
        predicted: [B, L, V].
        rows: [B, C, (T,) H, W].
        patch: sides of a patch.
        normalize: compare with patches of mean 0 and (unbiased) variance 1.
    """
    target = patches_of(rows, patch)
    if normalize:
        variance, mean = torch.var_mean(target, dim=2, keepdim=True)
        target = (target - mean) / (variance + 1e-6).sqrt()
    return (predicted - target).square().mean(dim=2)
