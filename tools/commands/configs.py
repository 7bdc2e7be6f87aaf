"""`gdt configs`: the configs that come along, and what every key of a config means."""

from typing import Annotated

import typer

from tools.commands.group import CommandGroup, command
from tools.say import say

app = typer.Typer(cls=CommandGroup, help="The configs that come along, and what every key means.")


@app.callback(invoke_without_command=True)
def list_configs(ctx: typer.Context) -> None:
    """List the configs that come along; each is a name that `gdt pretrain` takes."""
    if ctx.invoked_subcommand is not None:
        return
    from rich.table import Table

    from tools.runs.config_files import headline, shipped_configs
    from tools.terminal import Terminal

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, path in shipped_configs().items():
        table.add_row(name, headline(path))
    console = Terminal()
    console.print(table)
    console.print(
        "\n`gdt configs show NAME > mine.toml` copies one, `gdt configs explain` says what a key "
        "means.",
    )


@command(app, "show", "gdt configs show gdt > mine.toml")
def show(config: Annotated[str, typer.Argument(help="Name of a config.")]) -> None:
    """Print a config as it lies on disk, comments and all."""
    from tools.runs.config_files import find_config

    say(find_config(config).read_text(encoding="utf-8"), nl=False)


@command(app, "explain", "gdt configs explain optimizer.learning_rate", "gdt configs explain data")
def explain(
    key: Annotated[
        str | None, typer.Argument(help="A key or a table, as in trainer.epochs; all if absent.")
    ] = None,
) -> None:
    """Say what a key means, which values it takes and what it is by default."""
    from rich.text import Text

    from tools.runs.config import Config
    from tools.runs.config_keys import config_keys
    from tools.runs.config_keys import explain as explain_keys
    from tools.terminal import Terminal

    console = Terminal()
    for found in config_keys(Config) if key is None else explain_keys(Config, key):
        form = f" ({found.where})" if found.where else ""
        if found.kind == "table":
            console.print(
                Text.assemble("\n", (f"[{found.dotted}]", "bold"), f"{form}  {found.text}")
            )
            continue
        value = f" = {found.default}" if found.default else ""
        about = f"{found.kind}; required" if found.required else found.kind
        console.print(
            Text.assemble(
                (found.dotted, "bold cyan"), value, form if key else "", (f"   {about}", "dim")
            )
        )
        console.print(f"    {found.text}")
