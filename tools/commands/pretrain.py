"""`gdt pretrain`: one run, in one folder, started or continued."""

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tools.say import say

if TYPE_CHECKING:
    from tools.runs.config import Config
    from tools.runs.run_folder import RunFolder


EXAMPLES: Final = (
    "gdt pretrain demo --set data.shards=data/shards/train --out runs/first",
    "gdt pretrain ./mine.toml --set trainer.epochs=100 --out runs/mine --resume",
)


def pretrain(
    config: Annotated[
        str, typer.Argument(help="TOML file, or the name of one that comes along (`gdt configs`).")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key, as in trainer.epochs=5; repeatable."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/NAME-OF-THE-CONFIG by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that is in the folder.")
    ] = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Begin with the weights of a run folder, a checkpoint or a weights file."
        ),
    ] = None,
) -> None:
    """Pretrain a model on a stream of shards."""
    from tools.runs.config_files import find_config, read_tables

    path = find_config(config)
    read_tables(path, overrides or ())  # refuse what needs no torch before it is imported

    from tools.runs.config import load_config
    from tools.runs.run_folder import RunFolder

    begin = [] if init_from is None else [f"trainer.init_from={json.dumps(init_from)}"]
    settings = load_config(path, [*(overrides or ()), *begin])
    train_in(RunFolder(out or Path("runs") / path.stem), settings, config, resume=resume)


def train_in(folder: "RunFolder", settings: "Config", name: str, *, resume: bool) -> bool:
    """Train in a folder, and say what lies where; returns whether this is the first rank.

    Args:
        folder: of the run.
        settings: the run's.
        name: of the config, for people.
        resume: go on with the run that is there.
    """
    from tools.runs.ranks import is_first_rank
    from tools.terminal import Terminal

    console = Terminal()
    is_first = is_first_rank(os.environ)
    with folder.claimed(settings, resume=resume, is_first=is_first):
        if is_first:
            console.say(f"{name} → {folder.path}")
        _train(settings, folder, resume=resume, is_first=is_first)
    if is_first:
        from pipelines.skips import count_skips

        _draw_losses(settings, folder)
        for what, path in (
            ("checkpoint", folder.checkpoint),
            ("losses", folder.losses),
            ("loss curve", folder.loss_curve),
        ):
            console.say(f"{what:<11} {path}")
        if folder.skip_log.exists():
            console.say(f"{count_skips(folder.skip_log)} skips    {folder.skip_log}")
    return is_first


def _train(config: "Config", folder: "RunFolder", *, resume: bool, is_first: bool) -> None:
    """Run `fit`; where a signal ended it, say so and exit with the status that shells expect."""
    # the heaviest import, after all that can be refused quickly
    from tools.training.fit import fit
    from tools.training.stopping import Stopped, describe_stop, requeue_slurm_job

    try:
        fit(config, folder, resume=resume)
    except Stopped as stopped:
        if not is_first:
            return  # the first rank speaks for all
        folder.release()
        say(describe_stop(stopped, folder), err=True)
        if stopped.signum == signal.SIGUSR1:
            say(requeue_slurm_job(), err=True)
            raise typer.Exit(0) from stopped
        raise typer.Exit(128 + stopped.signum) from stopped


def _draw_losses(config: "Config", folder: "RunFolder") -> None:
    """Draw the loss curve, with the loss of equal embeddings where the plan alone gives it."""
    from models import METHODS
    from tools.display.loss_curve import loss_curve
    from tools.runs.losses import read_losses

    plan, method = config.build_plan(), METHODS[config.method.name]
    chance = method.loss_of_equal_embeddings(plan, config.data.batch_size)
    rows = read_losses(folder.path)
    loss_curve(
        [row.step for row in rows],
        [row.loss for row in rows],
        folder.loss_curve,
        chance=chance,
        chance_name="all embeddings equal",
        title=f"{folder.path.name}: loss of the batch before each step",
    )
