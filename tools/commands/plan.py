"""`gdt plan`: the factors of a plan as a table, c and w on the terminal or as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tools.commands.group import command, group

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from gdt import Plan

app = group("Look at plans: what a representation tells apart, and what it ignores.")

#: Columns of c and w that a terminal has room for.
MOST_COLUMNS: Final = 32


@command(app, "list", "gdt plan list")
def list_plans() -> None:
    """List the plans that have a name: `[plan] name = NAME` in a config, or --set plan=NAME."""
    from rich.table import Table

    from gdt.named_plans import NAMED_PLANS, named_plan
    from tools.terminal import Terminal

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "distinctive to", "invariant to"):
        table.add_column(heading)
    for name in NAMED_PLANS:
        factors = named_plan(name).factors
        columns = [
            ", ".join(f.name for f in factors if f.relation == relation)
            for relation in ("distinctive", "invariant")
        ]
        table.add_row(name, *columns)
    Terminal().print(table)


@command(
    app,
    "show",
    "gdt plan show gdt",
    "gdt plan show v_reversal_i_shift --out plan.png",
    "gdt plan show mine.toml --set plan.time_shift.draws=3",
)
def show(
    name: Annotated[
        str, typer.Argument(metavar="CONFIG|PLAN", help="A config (file or name), or a named plan.")
    ],
    out: Annotated[Path | None, typer.Option(help="PNG to draw c and w in.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")
    ] = None,
    num_samples: Annotated[int, typer.Option("--samples", min=2, help="Samples in the batch.")] = 3,
) -> None:
    """Print the factors, and which pairs of a small batch are positive; with --out, draw them."""
    from tools.runs.config_files import find_config, is_config, read_tables

    path = find_config(name) if is_config(name) else None
    if path is not None:  # what can be refused without torch is refused before it is imported
        read_tables(path, overrides or ())

    import torch

    from tools.runs.config import load_config, load_named_plan
    from tools.terminal import Terminal

    plan = (
        load_named_plan(name, overrides or ())
        if path is None
        else load_config(path, overrides or ()).build_plan()
    )
    console = Terminal()  # file names may hold brackets
    console.print(factor_table(plan, name))

    codes = plan.codes(torch.arange(num_samples))
    contrast, weight = plan.contrast(codes, codes), plan.weight(codes, codes)
    positives = int((contrast * weight != 0).sum())
    if len(codes) <= MOST_COLUMNS:
        console.print(pair_table(plan, codes))
    console.print(
        f"{num_samples} samples × {len(plan.grid())} transformations: {positives} positive of "
        f"{int((weight != 0).sum())} pairs",
        soft_wrap=True,
    )
    if out is not None:
        from tools.display.matrices import draw_matrices

        draw_matrices(plan, codes, out, title=f"plan of {name}")
        console.say(f"matrices    {out}")


def factor_table(plan: "Plan", name: str) -> "Table":
    """The factors of a plan, a row each."""
    from rich.table import Table

    table = Table(title=f"plan of {name}", box=None, pad_edge=False, title_justify="left")
    for heading in ("factor", "made at", "relation", "draws", "pairs", "values"):
        table.add_column(heading)
    for factor in plan.factors:
        table.add_row(
            factor.name,
            factor.stage,
            "own table" if factor.contrast is not None else factor.relation,
            "samples" if factor.name == "sample" else str(factor.draws),
            "own table" if factor.weight is not None else factor.pairs,
            ", ".join(map(str, factor.values)),
        )
    return table


def pair_table(plan: "Plan", codes: "Tensor") -> "Table":
    """Show c and w in one: `+` where a pair is positive, `·` where it is compared, else nothing.

    Args:
        plan: that relates the codes.
        codes: int64 [K, M]; rows and columns are in this order.
    """
    from rich.table import Table

    contrast, weight = plan.contrast(codes, codes), plan.weight(codes, codes)
    binary = all(bool(((table == 0) | (table == 1)).all()) for table in (contrast, weight))
    title = "+ positive (c·w ≠ 0)   · compared (w ≠ 0)   columns in the order of the rows"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for factor in plan.factors:
        table.add_column(factor.name, no_wrap=True)
    table.add_column("")
    for code, c, w in zip(codes, contrast.tolist(), weight.tolist(), strict=True):
        cells = [
            ("+" if binary else f"{ci:.2g}/{wi:.2g}") if ci * wi else "·" if wi else " "
            for ci, wi in zip(c, w, strict=True)
        ]
        table.add_row(*plan.draw_names(code), ("" if binary else " ").join(cells))
    return table
