"""The `gdt` command: each sub-command is one module, and imports what is heavy only when it runs."""

import typer

from tools import evaluate, plan, pretrain, samples, shards

app = typer.Typer(
    name="gdt",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Audio-visual self-supervision as a streaming data pipeline.",
)
app.add_typer(samples.app, name="samples")
app.add_typer(shards.app, name="shards")
app.add_typer(plan.app, name="plan")
app.command("pretrain")(pretrain.pretrain)
app.add_typer(evaluate.app, name="evaluate")
