"""One factor t_m of a transformation T = (t_1 … t_M), and its two tables.

A relation is a table over the factor's draws: C[k, l] says whether draws k and l may count as the
same thing (contrast), W[k, l] how much the pair weighs (weight). The paper's invariant and
distinctive, and "across modalities only", are three such tables; any other K×K table may be given
instead. Source: Patrick et al., "On Compositions of Transformations in Contrastive
Self-Supervised Learning", section 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

Table = tuple[tuple[float, ...], ...]

#: The canonical factors, in the order of the columns of every code.
FACTOR_NAMES: Final = ("sample", "time_shift", "modality", "time_reversal", "augmentation")
MODALITY_NAMES: Final = ("video", "audio", "image")

#: relation → C [K, K]. The representation ignores the factor, or tells its draws apart.
RELATIONS: Final[dict[str, Callable[[int], Tensor]]] = {
    "invariant": lambda draws: torch.ones(draws, draws, dtype=torch.float64),
    "distinctive": lambda draws: torch.eye(draws, dtype=torch.float64),
}

#: pairs → W [K, K]. Which pairs of draws take part in the loss.
PAIRS: Final[dict[str, Callable[[int], Tensor]]] = {
    "all": lambda draws: torch.ones(draws, draws, dtype=torch.float64),
    "cross": lambda draws: 1 - torch.eye(draws, dtype=torch.float64),
    "within": lambda draws: torch.eye(draws, dtype=torch.float64),
}


@dataclass(frozen=True)
class Factor:
    """A factor, its number of draws K and how they relate.

    Attributes:
        name: one of `FACTOR_NAMES`.
        relation: "invariant" or "distinctive"; gives C unless `contrast` does.
        draws: K, the versions drawn for each sample (1 for `sample`, whose draws are the samples).
        values: what the draws are called, where they have names (the modalities).
        pairs: "all", "cross" (draws differ) or "within" (they agree); gives W unless `weight` does.
        contrast: a K×K table of one's own instead of `relation`'s.
        weight: a K×K table of one's own instead of `pairs`'.

    Raises:
        ValueError: an unknown name or relation, a table of the wrong shape, a sample factor that
            is not distinctive.
    """

    name: str
    relation: str
    draws: int = 1
    values: tuple[str, ...] = ()
    pairs: str = "all"
    contrast: Table | None = None
    weight: Table | None = None

    def __post_init__(self) -> None:
        where = f"plan factor {self.name!r}"
        if self.name not in FACTOR_NAMES:
            raise ValueError(f"{where}: unknown, allowed are {', '.join(FACTOR_NAMES)}")
        for key, allowed in (("relation", RELATIONS), ("pairs", PAIRS)):
            if getattr(self, key) not in allowed:
                raise ValueError(
                    f"{where}: {key} = {getattr(self, key)!r}, allowed are {', '.join(allowed)}"
                )
        if self.draws < 1:
            raise ValueError(f"{where}: draws = {self.draws}, must be at least 1")
        self._check_values(where)
        if self.name == "sample":
            own_tables = self.contrast is not None or self.weight is not None
            if self.relation != "distinctive" or self.pairs != "all" or own_tables:
                raise ValueError(
                    f"{where}: must be distinctive, with all pairs and no table of its own: "
                    "a representation that ignores the sample has nothing to tell apart"
                )
        for key in ("contrast", "weight"):
            check_table(getattr(self, key), (self.draws, self.draws), f"{where}: {key}")

    def _check_values(self, where: str) -> None:
        if self.name == "modality":
            unknown = [v for v in self.values if v not in MODALITY_NAMES]
            if not self.values or unknown or len(set(self.values)) != len(self.values):
                raise ValueError(
                    f"{where}: values = {list(self.values)}, must be different ones of "
                    f"{', '.join(MODALITY_NAMES)}"
                )
        if self.values and len(self.values) != self.draws:
            raise ValueError(f"{where}: {len(self.values)} values for draws = {self.draws}")

    @property
    def contrast_table(self) -> Tensor:
        """C, float64 [K, K]."""
        if self.contrast is not None:
            return torch.tensor(self.contrast, dtype=torch.float64)
        return RELATIONS[self.relation](self.draws)

    @property
    def weight_table(self) -> Tensor:
        """W, float64 [K, K]."""
        if self.weight is not None:
            return torch.tensor(self.weight, dtype=torch.float64)
        return PAIRS[self.pairs](self.draws)


def check_table(table: Table | None, shape: tuple[int, int], where: str) -> None:
    """Refuse a table that is not `shape`, or holds a negative or non-finite number."""
    if table is None:
        return
    rows, columns = shape
    if len(table) != rows or any(len(row) != columns for row in table):
        got = f"{len(table)} rows of {sorted({len(row) for row in table})} numbers"
        raise ValueError(f"{where}: must be a table of {rows} × {columns} numbers, got {got}")
    if not all(0 <= x < float("inf") for row in table for x in row):
        raise ValueError(f"{where}: entries must be finite and not negative")
