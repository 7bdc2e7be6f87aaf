"""`gdt plan show`: the factors of a config's plan as a table, c and w as a picture."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Look at the plan of a config.")


@app.callback()
def _group() -> None:
    """A group even with one command."""


@app.command()
def show(
    config: Annotated[Path, typer.Argument(help="TOML file with plan tables.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")
    ] = None,
    num_samples: Annotated[int, typer.Option("--samples", min=2, help="Samples in the batch.")] = 3,
) -> None:
    """Print the factors, and draw c and w of a small batch with rows and columns named."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from tools.display.pictures import matrices
    from tools.runs.config import load_config

    plan = load_config(config, overrides or ()).build_plan()
    table = Table(title=f"plan of {config}")
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
    console = Console(markup=False)  # file names may hold brackets
    console.print(table)

    codes = plan.codes(torch.arange(num_samples))
    contrast, weight = plan.contrast(codes, codes), plan.weight(codes, codes)
    positives = int((contrast * weight != 0).sum())
    names = [plan.row_name(code) for code in codes]
    matrices(contrast.numpy(), weight.numpy(), names, names, out, title=f"plan of {config.name}")
    console.print(
        f"{num_samples} samples × {len(plan.grid())} transformations: {positives} positive of "
        f"{int((weight != 0).sum())} pairs",
        soft_wrap=True,
    )
    console.print(f"matrices    {out}", soft_wrap=True)
