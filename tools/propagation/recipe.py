"""The recipe of a propagation as data: what is remembered, which matches count, and how much."""

from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

from tools.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class Recipe:
    """How labels get from frames whose labels are known to the next one.

    A cell of the next frame takes the labels of the `top_k` cells that are most like it, of all
    remembered frames together, weighted by a softmax of their cosines.

    Attributes:
        num_previous: frames before the next one that are remembered, besides the first.
        repeat_first: before there are so many, the first stands in for them, and counts as often.
        top_k: matches of a cell that count.
        keep_ties: all that are as like as the k-th count, too.
        temperature: of the cosines.
        radius: matches lie no further from the cell's own place than this, in cells of the map.
        window: how that is measured: in a "disk" (less than the radius) or a "square" (at most).
        limit_first: it also holds for matches in the first frame.
        stretch: bring the soft label of each class to [0, 1] before the greatest is taken.
        shrink: how the first frame's labels are brought to the size of the map: "bilinear" or
            "nearest".
        short_side: frames are scaled to it; None leaves them as they are.
        multiple: the other side is then cut down to a multiple of so many pixels.

    Raises:
        EvaluationError: a number that makes no sense.
    """

    num_previous: int
    repeat_first: bool
    top_k: int
    keep_ties: bool
    temperature: float
    radius: float
    window: Literal["disk", "square"]
    limit_first: bool
    stretch: bool
    shrink: Literal["bilinear", "nearest"]
    short_side: int | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        for key, least in (("num_previous", 0), ("top_k", 1), ("radius", 1), ("multiple", 1)):
            if getattr(self, key) < least:
                raise EvaluationError(f"{key} = {getattr(self, key)}, must be at least {least}")
        if not self.temperature > 0:
            raise EvaluationError(f"temperature = {self.temperature}, must be more than 0")
        if self.short_side is not None and self.short_side < self.multiple:
            raise EvaluationError(
                f"short_side = {self.short_side}, must be at least {self.multiple} pixels"
            )

    def changed(self, **keys: Any) -> "Recipe":
        """Return the recipe with other values of those keys that are not None."""
        return replace(self, **{key: value for key, value in keys.items() if value is not None})

    def lines(self) -> list[str]:
        """Return what it says, a key a line."""
        return [f"{field.name} = {getattr(self, field.name)}" for field in fields(self)]


#: Published recipes, as their authors' code has them: ajabri/videowalk (Jabri et al. 2020) and
#: facebookresearch/dino (Caron et al. 2021), both for DAVIS-2017.
RECIPES: Final[dict[str, Recipe]] = {
    "videowalk": Recipe(
        num_previous=20,
        repeat_first=True,
        top_k=10,
        keep_ties=False,
        temperature=0.05,
        radius=12,
        window="disk",
        limit_first=False,
        stretch=False,
        shrink="bilinear",
    ),
    "dino": Recipe(
        num_previous=7,
        repeat_first=False,
        top_k=5,
        keep_ties=True,
        temperature=0.1,
        radius=12,
        window="square",
        limit_first=True,
        stretch=True,
        shrink="nearest",
        short_side=480,
        multiple=64,
    ),
}


def recipe_named(name: str) -> Recipe:
    """Return a published recipe.

    Raises:
        EvaluationError: there is none of that name.
    """
    if name not in RECIPES:
        raise EvaluationError(f"no recipe {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]
