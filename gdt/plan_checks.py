"""Whether every transformation of a plan has something to attract and something to repel it.

A transformation all of whose pairs weigh 0 is no anchor but may still be a key of others (one-way
losses); one that is neither is refused, and so is an anchor without a positive or a negative. The
message names the factor that is to blame: without it, the row would have had what it lacks.

A plan of one transformation of each sample is for methods that compare it with something else than
the batch: a memory bank, clusters, the input itself. Methods say whether they do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from gdt.factor import Factor
from gdt.grid import GridTables, grid_codes, row_name


def check_anchors(factors: Sequence[Factor], tables: GridTables, *, is_product: bool) -> None:
    """Refuse a plan with a transformation that cannot be trained.

    Args:
        factors: of the plan.
        tables: c and w of its grid.
        is_product: whether they follow from the factors, or are whole tables of one's own.

    Raises:
        ValueError: names the transformation, the factor to blame and what to set.
    """
    if is_product and all(factor.draws == 1 for factor in factors):
        return
    c_within, c_between, w_within, w_between = tables
    weighed = (w_within > 0) | (w_between > 0)  # G x G
    positive = ((c_within * w_within > 0) | (c_between * w_between > 0)).any(1)  # G
    negative = (((c_within == 0) & (w_within > 0)) | ((c_between == 0) & (w_between > 0))).any(1)
    is_anchor, is_key = weighed.any(1), weighed.any(0)  # G, G
    lacks = {
        "takes part in no pair (w = 0)": ~is_anchor & ~is_key,
        "has no positive (c·w = 0 with every other)": is_anchor & ~positive,
        "has no negative (c = 0 nowhere that w is above 0)": is_anchor & ~negative,
    }
    for lack, rows in lacks.items():
        if rows.any():
            row = int(rows.nonzero()[0])
            name = row_name(factors, grid_codes(factors)[row])
            blame = _blame(factors, row) if is_product else _WHOLE_TABLES
            raise ValueError(f"plan: the transformation {name!r} {lack}; {blame}")


_WHOLE_TABLES = (
    "[plan.tables] is to blame: give its row in contrast_file and weight_file an entry above 0 "
    "in both, and one above 0 in weight_file alone"
)


def _blame(factors: Sequence[Factor], row: int) -> str:
    for m, factor in enumerate(factors):
        if factor.name != "sample" and _positives_without(factors, factor)[row].any():
            draw = int(grid_codes(factors)[row, m])
            return (
                f"factor {factor.name!r} is to blame: [plan.{factor.name}] {_advice(factor, draw)}"
            )
    return 'several factors are to blame: set relation = "invariant" or pairs = "all" for one'


def _positives_without(factors: Sequence[Factor], left_out: Factor) -> Tensor:
    """c·w within a sample, [G, G], as if one factor did not mind."""
    product = torch.ones(1, 1, dtype=torch.float64)
    for factor in factors:
        table = factor.contrast_table * factor.weight_table
        product = torch.kron(product, torch.ones_like(table) if factor is left_out else table)
    return product.fill_diagonal_(0)


def _advice(factor: Factor, draw: int) -> str:
    if not factor.contrast_table[draw].any():
        return f"contrast: row {draw} is 0 throughout; give it an entry above 0"
    if not factor.weight_table[draw].any():
        if factor.weight is not None:
            return f"weight: row {draw} is 0 throughout; give it an entry above 0"
        return f'pairs = "{factor.pairs}" needs a second draw: add one, or set pairs = "all"'
    if factor.contrast is None and factor.relation == "distinctive":
        return 'relation = "distinctive": set "invariant", or give another factor two such draws'
    return (
        f"contrast and weight (or pairs) share no entry above 0 in row {draw}: no draw may both "
        'count as the same and weigh; set pairs = "all"'
    )
