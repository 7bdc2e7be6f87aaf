"""Propagate labels: each cell of the next frame takes those of the cells that are most like it.

    features [C, h, w] of frame after frame ─┐
    labels [L, h, w] of the first frame ─────┴─► soft labels [L, h, w] of frame after frame

Jabri et al. 2020 (arXiv:2006.14613, §4.1); Caron et al. 2021 (arXiv:2104.14294, §4.2.2).

Legend: C channels, L classes (the background is one), h × w cells of a map, N = h·w, S cells of all
remembered frames, Q cells that are looked up together.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tools.propagation.recipe import Recipe

_SCORES_AT_ONCE = 1 << 24


def propagated(features: Iterable[Tensor], first: Tensor, recipe: Recipe) -> Iterator[Tensor]:
    """Yield the soft labels [L, h, w] of each frame; those of the first are `first` itself.

    Args:
        features: of each frame, [C, h, w], of any length; they are compared by cosines.
        first: [L, h, w], what each cell of the first frame is, a share for each class.
        recipe: how.
    """
    frames = (F.normalize(frame, dim=0) for frame in features)
    start = next(frames), first
    yield first
    near = within(recipe, first.shape[1], first.shape[2]).to(first.device)
    memory = deque([start] * recipe.num_previous * recipe.repeat_first, recipe.num_previous)
    for frame in frames:
        labels = next_labels(frame, [start, *memory], near, recipe)
        yield labels
        memory.append((frame, labels))


def next_labels(
    frame: Tensor, remembered: Sequence[tuple[Tensor, Tensor]], near: Tensor, recipe: Recipe
) -> Tensor:
    """Return the soft labels of a frame [C, h, w], [L, h, w].

    Args:
        frame: of length 1 in each cell.
        remembered: features [C, h, w] and labels [L, h, w] of frames, the first frame's first.
        near: bool [N, N], see `within`.
        recipe: how.
    """
    sources = torch.stack([of for of, _ in remembered]).flatten(2)  # M × C × N
    labels = torch.stack([of for _, of in remembered], dim=1).flatten(1)  # L × M·N
    cells = frame.flatten(1)  # C × N
    count = max(1, _SCORES_AT_ONCE // labels.shape[1])
    found = []
    for block in torch.arange(cells.shape[1], device=cells.device).split(count):
        scores = sources.transpose(1, 2) @ cells[:, block]  # M × N × Q
        limited = scores if recipe.limit_first else scores[1:]
        limited.masked_fill_(~near[:, block], -torch.inf)
        weights, places = matches(scores.flatten(0, 1), recipe)
        if places is None:
            found.append(labels @ weights)
        else:
            found.append((labels[:, places] * weights).sum(1))
    return torch.cat(found, dim=1).view(len(labels), *frame.shape[1:])


def matches(scores: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor | None]:
    """Return how much each match of a cell counts, and which cells the matches are.

    Args:
        scores: [S, Q], cosines; −∞ where there can be no match.
        recipe: how many count, and at which temperature.

    Returns:
        Weights [k, Q] that sum to 1, and places int64 [k, Q], the likest first; with ties weights
        of all, [S, Q], and None.
    """
    best, places = scores.topk(min(recipe.top_k, len(scores)), dim=0)
    if recipe.keep_ties:
        kept = scores.masked_fill(scores < best[-1:], -torch.inf)
        return (kept / recipe.temperature).softmax(0), None
    return (best / recipe.temperature).softmax(0), places


def within(recipe: Recipe, height: int, width: int) -> Tensor:
    """Return which cells of a map of h × w cells are near which, bool [N, N]."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    down, across = ((of.flatten()[:, None] - of.flatten()[None]).abs() for of in (rows, columns))
    if recipe.window == "square":
        return torch.maximum(down, across) <= recipe.radius
    return (down.square() + across.square()).double().sqrt() < recipe.radius


def as_masks(labels: Tensor, size: tuple[int, int], recipe: Recipe) -> Tensor:
    """Return the class of each pixel, int64 [H, W], of soft labels [L, h, w].

    Args:
        labels: as `propagated` yields them.
        size: H and W.
        recipe: whether classes are brought to [0, 1] first.
    """
    fine = F.interpolate(labels[None], size=size, mode="bilinear", align_corners=False)[0]
    if recipe.stretch:
        fine = stretched(fine)
    return fine.argmax(0)


def stretched(labels: Tensor) -> Tensor:
    """Bring each class of [L, H, W] to [0, 1]: its least value to 0 and its greatest to 1."""
    least, greatest = labels.aminmax(dim=1, keepdim=True)
    least, greatest = least.amin(2, keepdim=True), greatest.amax(2, keepdim=True)
    spread = greatest - least
    return torch.where(spread > 0, (labels - least) / spread.clamp_min(1e-30), labels)


def shrunk(mask: Tensor, num_classes: int, size: tuple[int, int], recipe: Recipe) -> Tensor:
    """Return labels [L, h, w] of the first frame, of its mask: int64 [H, W], classes below L."""
    one_hot = F.one_hot(mask, num_classes).permute(2, 0, 1)[None].float()
    if recipe.shrink == "nearest":
        return F.interpolate(one_hot, size=size, mode="nearest")[0]
    return F.interpolate(one_hot, size=size, mode="bilinear", align_corners=False)[0]
