"""TimeCycle: follow a patch back through a clip and forth again, and end where it was cut out.

Wang, Jabri, Efros, "Learning Correspondence from the Cycle-consistency of Time", CVPR 2019,
arXiv:1903.07593. A localiser says from the affinity of a patch's cells to a frame's where in the
frame the patch is: its place and its angle; what lies there is cut out of the frame's map, and
looked for in the next one.

Legend: B clips, T past frames, C channels, h cells of a side of a frame's map, s of a patch's (a
third), θ an affine map [2, 3] from a patch's square [-1, 1]² to its frame's.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gdt import Batch, global_mean
from models.method import Losses, Method, MethodOptions, Needs, Setting
from models.parts.frame_maps import check_count, check_frames
from models.towers import Towers, at_least_float32

_WHY = "TimeCycle follows a patch back and forth"
_LEAST_FRAMES = 5  # three past ones, the one that the patch is of, and a later one
_SHARE = 3  # a patch's side is the frame's by this
_SAMPLED_SHIFT = 227 / 210  # by which the authors' code moves further than θ says
_PLACES_ASIDE = 7  # where a patch may lie ...
_MOVING_PLACES = (
    10  # ... of which those of the largest difference to the later frame are drawn from
)
_ERROR_GRID = 20  # points of a side at which two θ are compared
_DIVISOR = 1e-5  # share of all values, added to a sum before it divides


@dataclass(frozen=True)
class TimeCycleOptions(MethodOptions):
    """`[method]`: cycles through the frames of a clip.

    Attributes:
        name: "timecycle".
        embedding_dim: channels of the maps that are compared.
        map_cells: h, cells of a side of a frame's map, a multiple of 3: the crop's size by
            encoders.map_stride.
        temperature: of the cosines between cells; None is 1 / √embedding_dim.
        kernels: of the localiser's two convolutions over a patch's cells.
        hidden_dims: their channels.
        largest_turn: degrees by which a patch may be turned, either way.
        cycle_weight: of the cycles of all lengths.
        skip_weight: of the cycles by one frame alone.
    """

    name: Literal["timecycle"] = "timecycle"
    embedding_dim: int = 512
    map_cells: int = 30
    temperature: float | None = None
    kernels: tuple[int, int] = (4, 4)
    hidden_dims: tuple[int, int] = (128, 64)
    largest_turn: float = 45.0
    cycle_weight: float = 0.02
    skip_weight: float = 0.1

    def __post_init__(self) -> None:
        self._check_counts("embedding_dim", "map_cells")
        self._check("map_cells", self.map_cells % _SHARE == 0, f"a multiple of {_SHARE}")
        if self.temperature is not None:
            self._check_temperatures("temperature")
        left = self.patch_cells - sum(self.kernels) + 2
        allowed = f"smaller: two convolutions leave nothing of {self.patch_cells} cells of a patch"
        self._check("kernels", min(self.kernels) >= 1 and left >= 1, allowed)
        for key in ("largest_turn", "cycle_weight", "skip_weight"):
            self._check(key, getattr(self, key) >= 0, "at least 0")

    @property
    def patch_cells(self) -> int:
        """Cells of a side of a patch's map, s."""
        return self.map_cells // _SHARE


class TimeCycle(Method):
    """An encoder of frames, a layer to the maps that are compared, and a localiser.

    Raises:
        ValueError: a plan of other rows than video, or an encoder that mixes frames.
    """

    options_type = TimeCycleOptions
    needs = Needs(1, 1, positives=False, why=_WHY)

    def __init__(self, options: TimeCycleOptions, setting: Setting) -> None:
        super().__init__(options, setting)
        self.options = options
        self.temperature = options.temperature or options.embedding_dim**-0.5
        self.towers = Towers(
            setting.encoders,
            self.plan,
            lambda dim: nn.Sequential(
                nn.Linear(dim, options.embedding_dim, bias=False), nn.ReLU(inplace=True)
            ),
        )
        check_frames(self.towers, self.plan, setting.encoders, _WHY)
        self.localiser = Localiser(options)

    def forward(self, batch: Batch) -> Losses:
        """Return the loss of a batch of clips: T past frames, one with the patch, and a later one.

        Raises:
            ValueError: clips of fewer than five frames, or of another size than `map_cells` says.
        """
        (view,) = self.towers.views(batch)
        check_count(view.values.shape[2], _LEAST_FRAMES, _WHY)
        *_, target, later = view.values.unbind(2)  # B × 3 × S × S
        truth = self.draw_patches(moving(target, later))
        patch = cut_out(target, truth, view.values.shape[3] // _SHARE)
        maps = self.cells(view.modality, view.values[:, :, :-1])  # B × T+1 × C × h × h
        of_patch = self.cells(view.modality, patch[:, :, None])[:, 0]  # B × C × s × s
        self._check_size(maps, of_patch)
        with torch.autocast(maps.device.type, enabled=False):
            found = self.cycles(maps[:, :-1], of_patch, maps[:, -1])
            cycle = torch.stack([global_mean(apart(theta, truth)) for theta in found.returns])
            skip = global_mean(apart(found.skip_returns, truth[:, None]).mean(1))
            similarity = -global_mean(found.similarities.mean(1))
        options = self.options
        total = options.cycle_weight * cycle.mean() + similarity + options.skip_weight * skip
        return Losses(total, {"cycle": cycle.mean(), "skip": skip, "similarity": similarity})

    def cells(self, modality: str, frames: Tensor) -> Tensor:
        """Return the maps of frames [B, 3, T, H, W] that are compared, [B, T, C, h, w]."""
        maps = self.towers.maps(modality, frames).movedim(1, 4)  # B × T × h × w × C
        return at_least_float32(self.towers.heads[modality](maps)).movedim(4, 2)

    def cycles(self, past: Tensor, patch: Tensor, target: Tensor) -> "Found":
        """Follow a patch through cycles of every length.

        Args:
            past: maps of the past frames, [B, T, C, h, h].
            patch: of the patch, [B, C, s, s].
            target: of the frame that it is of, [B, C, h, h].
        """
        frames = past.unbind(1)
        returns = []
        sought = patch
        for number in range(len(frames) - 1, -1, -1):  # one frame further back each time
            sought = self._found(sought, frames[number])
            coming = sought
            for frame in frames[number + 1 :]:
                coming = self._found(coming, frame)
            returns.append(self.localiser(self.affinity(coming, target)))
        skips, skip_returns, similarities = [], [], []
        for frame in frames:
            affinity = self.affinity(patch, frame)
            theta = self.localiser(affinity)
            there = cropped(frame, theta, patch.shape[2])
            skips.append(theta)
            skip_returns.append(self.localiser(self.affinity(there, target)))
            similarities.append(similarity_along(affinity, theta))
        stacked = (torch.stack(of, dim=1) for of in (skips, skip_returns, similarities))
        return Found(returns, *stacked)

    def _found(self, patch: Tensor, frame: Tensor) -> Tensor:
        """Return what lies in a frame's map where a patch is found, [B, C, s, s]."""
        return cropped(frame, self.localiser(self.affinity(patch, frame)), patch.shape[2])

    def affinity(self, patch: Tensor, frame: Tensor) -> Tensor:
        """Return how like a patch's cells are to each of a frame's, [B, h·h, s, s].

        Frame cells lie column by column, as in the authors' code, and sum to 1.

        Args:
            patch: [B, C, s, s].
            frame: [B, C, h, h].
        """
        ours, theirs = F.normalize(patch, dim=1), F.normalize(frame, dim=1)
        cosines = torch.einsum("bcn,bcij->bnij", theirs.transpose(2, 3).flatten(2), ours)
        return (cosines / self.temperature).softmax(1)

    def draw_patches(self, motion: Tensor) -> Tensor:
        """Draw where a patch is cut out of each frame: θ, [B, 2, 3].

        Args:
            motion: [B, 7, 7], how much changes at each place.
        """
        best = motion.flatten(1).topk(_MOVING_PLACES, dim=1).indices.cpu()
        shift, turn = torch.rand(len(motion), 2), torch.rand(len(motion))
        which = torch.randint(_MOVING_PLACES, (len(motion), 1))
        chosen = best.gather(1, which)[:, 0]
        grid = torch.stack([chosen % _PLACES_ASIDE, chosen // _PLACES_ASIDE], dim=1)  # x, y
        room = 1 - 1 / _SHARE  # of a patch's middle
        middles = room * (2 * (grid + shift) / _PLACES_ASIDE - 1)
        angle = torch.deg2rad((2 * turn - 1) * self.options.largest_turn)
        return theta_of(torch.cat([middles, angle[:, None]], dim=1)).to(motion)

    def _check_size(self, maps: Tensor, patch: Tensor) -> None:
        cells, sides = self.options.map_cells, (*maps.shape[3:], *patch.shape[2:])
        if sides != (cells, cells, cells // _SHARE, cells // _SHARE):
            raise ValueError(
                f"method.map_cells = {cells}, and frames have maps of {sides[0]}×{sides[1]} and "
                f"patches of {sides[2]}×{sides[3]} cells: set it to video_augment.size / "
                "encoders.map_stride, a multiple of 3, so that a patch has a third of the cells"
            )


@dataclass(frozen=True)
class Found:
    """Where a patch was found, θ for θ.

    Attributes:
        returns: in its own frame, at the end of the cycle of each length, [B, 2, 3].
        skips: in each past frame alone, [B, T, 2, 3].
        skip_returns: from there in its own frame, [B, T, 2, 3].
        similarities: of the patch and what was found in each past frame, [B, T].
    """

    returns: list[Tensor]
    skips: Tensor
    skip_returns: Tensor
    similarities: Tensor


class Localiser(nn.Module):
    """Says where in a frame a patch is, of the affinity of their cells.

    Args:
        options: sizes.
    """

    def __init__(self, options: TimeCycleOptions) -> None:
        super().__init__()
        (first, second), (wide, narrow) = options.kernels, options.hidden_dims
        left = options.patch_cells - first - second + 2
        self.convolutions = nn.Sequential(
            nn.Conv2d(options.map_cells**2, wide, first, bias=False),
            nn.LeakyReLU(0.1),
            nn.Conv2d(wide, narrow, second, bias=False),
            nn.LeakyReLU(0.1),
        )
        self.affine = nn.Linear(narrow * left**2, 3)
        nn.init.normal_(self.affine.weight, std=0.01)
        nn.init.zeros_(self.affine.bias)

    def forward(self, affinity: Tensor) -> Tensor:
        """Return θ, [B, 2, 3], of affinities [B, h·h, s, s]."""
        return theta_of(self.affine(self.convolutions(affinity).flatten(1)))


def theta_of(place: Tensor) -> Tensor:
    """Return θ [B, 2, 3] of a shift x, y and an angle [B, 3]; patches are a third of the frame."""
    x, y, angle = place.unbind(1)
    cos, sin = angle.cos() / _SHARE, angle.sin() / _SHARE
    return torch.stack([cos, -sin, x, sin, cos, y], dim=1).view(-1, 2, 3)


def cut_out(frame: Tensor, theta: Tensor, side: int) -> Tensor:
    """Cut patches [B, 3, side, side] out of frames [B, 3, S, S], mirrored at their edges."""
    grid = F.affine_grid(theta, [len(theta), 1, side, side], align_corners=False)
    return F.grid_sample(frame, grid.to(frame), padding_mode="reflection", align_corners=False)


def cropped(frame: Tensor, theta: Tensor, side: int) -> Tensor:
    """Cut a patch's cells [B, C, side, side] out of a frame's map [B, C, h, w]; 0 outside of it."""
    sampled = torch.cat([theta[:, :, :2], theta[:, :, 2:] * _SAMPLED_SHIFT], dim=2)
    grid = F.affine_grid(sampled, [len(theta), 1, side, side], align_corners=True)
    return F.grid_sample(frame, grid, align_corners=True)


def apart(found: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared distance of two patches' points, [...], of θ [..., 2, 3]."""
    line = torch.linspace(-1, 1, _ERROR_GRID, dtype=found.dtype, device=found.device)
    points = torch.stack(
        [
            line.repeat(_ERROR_GRID),
            line.repeat_interleave(_ERROR_GRID),
            torch.ones_like(line).repeat(_ERROR_GRID),
        ]
    )  # 3 × points
    return ((found - truth) @ points).square().sum(-2).mean(-1)


def similarity_along(affinity: Tensor, theta: Tensor) -> Tensor:
    """Return how like a patch's cells are to those that θ says they are, [B].

    Args:
        affinity: [B, h·h, s, s].
        theta: [B, 2, 3].
    """
    side = int(affinity.shape[1] ** 0.5)
    identity = torch.eye(side**2).view(side, side, side, side).transpose(0, 1).flatten(0, 1)
    masks = identity.to(affinity).expand(len(affinity), -1, -1, -1)  # channel x·h + y
    warped = cropped(masks, theta, affinity.shape[2])
    total = warped.sum((1, 2, 3)) + _DIVISOR * warped[0].numel()
    return (warped * affinity).sum((1, 2, 3)) / total


def moving(target: Tensor, later: Tensor) -> Tensor:
    """Return how much two frames [B, 3, S, S] differ at each place a patch may lie, [B, 7, 7]."""
    return F.adaptive_avg_pool2d((later - target).abs().sum(1), _PLACES_ASIDE)
