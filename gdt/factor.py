"""One factor t_m of a transformation T = (t_1 … t_M), and its two tables.

A relation is a table over the factor's draws: C[k, l] says whether draws k and l may count as the
same thing (contrast), W[k, l] how much the pair weighs (weight). The paper's invariant and
distinctive, and "across modalities only", are three such tables; any other K×K table may be given
instead. Source: Patrick et al., "On Compositions of Transformations in Contrastive
Self-Supervised Learning", section 3.

What there is to draw stands in `gdt.factors`, one small class for each factor.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, Literal

import torch
from torch import Tensor

Table = tuple[tuple[float, ...], ...]

#: A factor's draws and a sample's transformations are few: tables are K × K and G × G numbers.
MAX_DRAWS: Final = 1024

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
    """A factor, its number of draws K and how they relate. A subclass says which factor it is.

    Attributes:
        name: of its `[plan.…]` table and its code column.
        stage: what makes its draws: "decode" (which bytes a row is made of) or "device" (what is
            done to decoded pixels and samples).
        relation: "invariant" or "distinctive"; gives C unless `contrast` does.
        draws: K, the versions drawn for each sample (1 for `sample`, whose draws are the samples).
        values: what the draws are called, where they have names (the modalities), or the numbers
            they stand for (the speeds).
        pairs: "all", "cross" (draws differ) or "within" (they agree); gives W unless `weight` does.
        contrast: a K×K table of one's own instead of `relation`'s, of numbers from 0 to 1.
        weight: a K×K table of one's own instead of `pairs`', of numbers not below 0.

    Raises:
        ValueError: an unknown relation, too many draws, a table of the wrong shape or range, or
            whatever the factor's own `check` refuses.
    """

    name: ClassVar[str]
    stage: ClassVar[Literal["decode", "device"]]
    #: What `values` holds, where it is not names.
    value_type: ClassVar[type] = str

    relation: str
    draws: int = 1
    values: tuple[Any, ...] = ()
    pairs: str = "all"
    contrast: Table | None = None
    weight: Table | None = None

    def __post_init__(self) -> None:
        for key, allowed in (("relation", RELATIONS), ("pairs", PAIRS)):
            if getattr(self, key) not in allowed:
                self.refuse(f"{key} = {getattr(self, key)!r}, allowed are {', '.join(allowed)}")
        if not 1 <= self.draws <= MAX_DRAWS:
            self.refuse(f"draws = {self.draws}, must be from 1 to {MAX_DRAWS}")
        if not all(_is_a(self.value_type, value) for value in self.values):
            names = "names" if self.value_type is str else "numbers"
            self.refuse(f"values = {list(self.values)}, must be a list of {names}")
        if self.values and len(self.values) != self.draws:
            self.refuse(f"{len(self.values)} values for draws = {self.draws}")
        if len(set(self.values)) != len(self.values):
            self.refuse(f"values = {list(self.values)}, must be different from each other")
        self.check()
        shape = (self.draws, self.draws)
        check_table(self.contrast, shape, f"[plan.{self.name}]: contrast", highest=1)
        check_table(self.weight, shape, f"[plan.{self.name}]: weight")

    def check(self) -> None:
        """Refuse what this factor cannot be; called when it is made."""

    def refuse(self, why: str) -> None:
        """Raise the ValueError of this factor's table in the plan."""
        raise ValueError(f"[plan.{self.name}]: {why}")

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

    def identity(self) -> Mapping[str, Any]:
        """What a fingerprint is made of: these seven keys, and any other that is not its default.

        A key that a later version adds, so, leaves the fingerprint of a plan without it alone.
        """
        keys = ("name", "relation", "draws", "values", "pairs", "contrast", "weight")
        own = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in keys and getattr(self, field.name) != field.default
        }
        return {key: getattr(self, key) for key in keys} | own


def _is_a(kind: type, value: object) -> bool:
    return isinstance(value, kind) or (kind is float and type(value) is int)


def check_table(
    table: Table | None, shape: tuple[int, int], where: str, highest: float = math.inf
) -> None:
    """Refuse a table that is not `shape`, or holds a number below 0, above `highest`, or no number.

    Raises:
        ValueError: says `where`, the shape or number got, and what is allowed.
    """
    if table is None:
        return
    rows, columns = shape
    if len(table) != rows or any(len(row) != columns for row in table):
        got = f"{len(table)} rows of {sorted({len(row) for row in table})} numbers"
        raise ValueError(f"{where}: must be a table of {rows} × {columns} numbers, got {got}")
    for i, row in enumerate(table):
        for j, x in enumerate(row):
            if not (0 <= x <= highest and math.isfinite(x)):
                most = "finite and not negative" if highest == math.inf else f"from 0 to {highest}"
                raise ValueError(f"{where}: entries must be {most}, got {x} in row {i} column {j}")
