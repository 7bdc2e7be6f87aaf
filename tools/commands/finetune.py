"""`gdt finetune`: a classifier on a pretrained encoder, and how it does on clips held out."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tools.commands.pretrain import train_in

if TYPE_CHECKING:
    from tools.runs.config import Config

EXAMPLES: Final = (
    "gdt finetune --run runs/first --train ucf/train --test ucf/test --modality video",
    "gdt finetune --run runs/first --train esc50 --modality audio --linear --out runs/linear",
    "gdt finetune finetune_ucf101 --run runs/gdt --train ucf/train1 --test ucf/test1",
)


def finetune(
    config: Annotated[
        str, typer.Argument(help="TOML file, or the name of one that comes along (`gdt configs`).")
    ] = "finetune",
    run: Annotated[
        str | None,
        typer.Option(
            help="What to begin with: a run folder, or a file of `gdt export`, torchvision or the "
            "GDT authors. Weights are drawn at random if absent."
        ),
    ] = None,
    train: Annotated[str | None, typer.Option(help="Labelled data set to learn from.")] = None,
    test: Annotated[
        str | None, typer.Option(help="Labelled data set that is scored at the end.")
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="Whose encoder: video, audio, image. Repeatable.")
    ] = None,
    linear: Annotated[
        bool, typer.Option("--linear", help="Train the classifier alone; the encoder stays.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a key, as in trainer.epochs=5; repeatable."
        ),
    ] = None,
    segments: Annotated[int, typer.Option(min=1, help="Segments of a test clip.")] = 10,
    crops: Annotated[int, typer.Option(min=1, help="Crops of each segment's frames.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Run folder; runs/NAME-OF-THE-CONFIG by default.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run that is in the folder.")
    ] = False,
) -> None:
    """Fine-tune an encoder on labels, or a linear layer on it, and test the last step's weights.

    What the config says nothing of is as in the run: encoders, segments, augmentation, log-mel.
    """
    from tools.runs.config_files import find_config, read_tables

    path = find_config(config)
    said = [
        *([] if train is None else [f"data.shards={json.dumps(train)}"]),
        *([] if not modality else [f"plan.modality.values={json.dumps(modality)}"]),
        *(['method.trains="head"'] if linear else []),
        *([] if run is None else [f"trainer.init_from={json.dumps(run)}"]),
        *(overrides or ()),
    ]
    tables = read_tables(path, said)

    from tools.runs.config import config_of
    from tools.runs.run_folder import RunFolder
    from tools.runs.take_over import take_over

    settings = config_of(tables if run is None else take_over(tables, run), path, said)
    if test is not None:
        _check_test(settings, test)
    folder = RunFolder(out or Path("runs") / path.stem)
    is_first = train_in(folder, settings, config, resume=resume)
    if is_first and test is not None:
        from tools.commands.label_tasks import classify
        from tools.commands.task_flags import TaskFlags

        flags = TaskFlags(folder.path, threads=settings.data.threads)
        classify(flags, test, segments, crops)


def _check_test(settings: "Config", test: str) -> None:
    """Refuse test clips that the classifier could not be asked about, before it is trained."""
    from shards import open_samples
    from tools.evaluation.labels import labels_of
    from tools.evaluation.tasks.classification import check_learned

    dataset = open_samples(test, settings.data.remote)
    check_learned(dataset, labels_of(dataset), sorted(set(labels_of(settings.data.open()))))
