"""VideoMAE: paint the cubes of a clip that an encoder did not see, in the same places at all times.

Tong et al., "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video
Pre-Training", NeurIPS 2022, arXiv:2203.12602, §3. What is painted is what the encoder is given; the
authors undo the normalisation of colours first, which changes nothing but the ε of a patch's
deviation, as each channel of a cube is normalised by itself.

Legend: B clips, L cubes, K kept ones, t × h × w of them, P patch size, T frames.
"""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from gdt import Batch, View, global_mean
from models.encoders.text import positions
from models.encoders.video_vit import TUBELET, VideoVitEncoder
from models.method import Losses, Method, Needs, Setting
from models.parts.patch_decoder import MaskedOptions, PatchDecoder
from models.towers import Towers, at_least_float32


@dataclass(frozen=True)
class VideoMAEOptions(MaskedOptions):
    """`[method]`: a reconstruction of masked tubes of a clip.

    Attributes:
        name: "videomae".
    """

    name: Literal["videomae"] = "videomae"
    mask_share: float = 0.9
    decoder_dim: int = 384
    decoder_depth: int = 4
    decoder_heads: int = 6


class VideoMAE(Method):
    """A ViT of clips that sees some of the cubes, and a small decoder that paints the others.

    Raises:
        ValueError: an encoder that is no ViT of clips.
    """

    options_type = VideoMAEOptions
    needs = Needs(positives=False, one_modality=True, why="VideoMAE hides cubes of each clip")

    def __init__(self, options: VideoMAEOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.towers = Towers(setting.encoders, self.plan, lambda features_dim: nn.Identity())
        (modality,) = self.plan.modalities
        encoder = self.towers.encoder(modality)
        if not isinstance(encoder, VideoVitEncoder):
            raise ValueError(
                f"VideoMAE hides cubes, which a ViT of clips alone has: encoders.{modality} = "
                f'"{getattr(setting.encoders, modality)}", must be one of "video_vit_mini", '
                '"video_vit_small", "video_vit_base", and plan.modality.values = ["video"]'
            )
        values = 3 * TUBELET * encoder.trunk.patch_size**2
        self.decoder = PatchDecoder(values, encoder.embedding_dim, options, 0)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch, a float32 scalar."""
        errors = [self._errors(view) for view in self.towers.views(batch)]
        return Losses(global_mean(torch.cat(errors)))

    def draw_noise(self, num_rows: int, num_places: int) -> Tensor:
        """Draw what decides which places are seen, from torch's generator: [B, h·w]."""
        return torch.rand(num_rows, num_places)  # on the CPU: the same on any device

    def _errors(self, view: View) -> Tensor:
        """Return the mean squared error of each hidden cube."""
        encoder = cast(VideoVitEncoder, self.towers.encoder(view.modality))
        encoder.check(view.values)
        times, height, width = encoder.trunk.grid(view.values)
        noise = self.draw_noise(len(view), height * width).to(view.values.device)
        kept, hidden, places = tube_masking(noise, times, self.options.mask_share)
        tokens = encoder.trunk(view.values, kept)  # B × K × D
        of_all = positions(times * height * width, self.options.decoder_dim)
        predicted = self.decoder(tokens, places, of_all)  # B × L × 2·P·P·3
        with torch.autocast(tokens.device.type, enabled=False):
            target = cubes_of(
                at_least_float32(view.values),
                encoder.trunk.patch_size,
                normalize=self.options.normalize_patches,
            )
            return (at_least_float32(predicted) - target).square().mean(dim=2)[hidden]


def tube_masking(noise: Tensor, times: int, mask_share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Hide the same places at all times: those with the most noise.

    Args:
        noise: [B, h·w].
        times: t.
        mask_share: share of the places that is hidden, rounded down.

    Returns:
        Kept cubes, int64 [B, K], time by time in the order of their noise; which are hidden, bool
        [B, L]; and the place of each cube among the kept ones, hidden ones behind: int64 [B, L].

    Raises:
        ValueError: all would be hidden, or none.
    """
    num_places = noise.shape[1]
    num_hidden = int(num_places * mask_share)
    if not 0 < num_hidden < num_places:
        raise ValueError(
            f"method.mask_share = {mask_share} of {num_places} places hides {num_hidden}: take a "
            "larger video_augment.size, a smaller encoders.patch_size, or another share"
        )
    num_kept = num_places - num_hidden
    order = noise.argsort(dim=1)
    rank = order.argsort(dim=1)[:, None]  # B × 1 × h·w
    time = torch.arange(times, device=noise.device)[:, None]  # t × 1
    kept = (order[:, None, :num_kept] + time * num_places).flatten(1)
    hidden = (rank >= num_kept).expand(-1, times, -1)
    behind = times * num_kept + time * num_hidden + rank - num_kept
    places = torch.where(hidden, behind, time * num_kept + rank)
    return kept, hidden.flatten(1), places.flatten(1)


def cubes_of(clips: Tensor, patch_size: int, *, normalize: bool) -> Tensor:
    """Cut clips [B, 3, T, H, W] into cubes [B, L, 2·P·P·3], by time, row, column and channel.

    Args:
        clips: frames and sides that cubes divide.
        patch_size: P.
        normalize: bring each channel of a cube to mean 0 and (unbiased) deviation 1.
    """
    pieces = clips.unfold(2, TUBELET, TUBELET)
    pieces = pieces.unfold(3, patch_size, patch_size).unfold(4, patch_size, patch_size)
    cubes = pieces.permute(0, 2, 3, 4, 5, 6, 7, 1).flatten(4, 6).flatten(1, 3)  # B × L × 2PP × 3
    if normalize:
        deviation, mean = torch.std_mean(cubes, dim=2, keepdim=True)
        cubes = (cubes - mean) / (deviation + 1e-6)
    return cubes.flatten(2)
