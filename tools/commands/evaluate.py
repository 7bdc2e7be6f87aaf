"""`gdt evaluate`: what a pretrained model has learned, in numbers beside chance."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tools.commands.group import command, group

if TYPE_CHECKING:
    from tools.evaluation.runner import Outcome, Task

app = group("What a model has learned, beside chance.")

Run = Annotated[Path, typer.Option(help="Run folder of `gdt pretrain`.")]
Train = Annotated[str, typer.Option(help="Labelled data set to learn from.")]
MaybeTrain = Annotated[str | None, typer.Option(help="Labelled data set to learn from.")]
Test = Annotated[str, typer.Option(help="Data set that is scored.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the results; one of their own in RUN/evaluation if absent."),
]
Modality = Annotated[
    list[str] | None,
    typer.Option(help="Score this modality alone; clips need no other. May be repeated."),
]
Segments = Annotated[int, typer.Option(min=1, help="Evenly spaced segments of a clip.")]
Untrained = Annotated[
    bool, typer.Option(help="Score the encoder as it was before its first step, too.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Clips encoded together.")]
Threads = Annotated[int, typer.Option(min=1, help="Decoding threads.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
Counts = Annotated[str, typer.Option(help="One or several, with commas between.")]


@command(
    app,
    "retrieval",
    "gdt evaluate retrieval --run runs/first --shards data/shards/val",
    "gdt evaluate retrieval --run runs/first --train ucf/train --test ucf/test --protocol selavi",
)
def retrieval(
    run: Run,
    shards: Annotated[
        str | None, typer.Option(help="Data set whose clips look for each other.")
    ] = None,
    train: Annotated[str | None, typer.Option(help="In its place: the gallery,")] = None,
    test: Annotated[
        str | None, typer.Option(help="and the queries, which look for labels.")
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="A preset (see `gdt evaluate protocols`) or a TOML file.")
    ] = "default",
    keys: Annotated[
        Path | None,
        typer.Option("--list", help="Text file: keys of the clips to take, one a line."),
    ] = None,
    modality: Modality = None,
    segments: Annotated[
        int | None, typer.Option(min=1, help="Segments a clip, in place of the protocol's.")
    ] = None,
    out: Out = None,
    queries: Annotated[int, typer.Option(min=1, help="Queries a direction on the page.")] = 12,
    hits: Annotated[int, typer.Option(min=1, help="Top hits of each query on the page.")] = 5,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Run folder whose results the page shows beside.")
    ] = None,
    untrained: Untrained = True,
    batch_size: BatchSize = 16,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Find the video for a sound, the sound for a video, and clips of the same label."""
    from tools.evaluation.protocol import load_protocol, read_gallery_list, with_segments
    from tools.evaluation.retrieval_report import write_page
    from tools.evaluation.runner import roles_of
    from tools.evaluation.tasks.retrieval import Retrieval
    from tools.runs.run import choose_device

    chosen = with_segments(load_protocol(protocol), segments)
    listed = None if keys is None else read_gallery_list(keys)
    task = Retrieval(chosen, listed, choose_device(device))
    outcome = _evaluate(
        task,
        places=chosen.places,
        run=run,
        data=roles_of(train, test, shards, needs_train=False),
        modalities=tuple(modality or ()),
        out=out,
        untrained=untrained,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )
    for line in chosen.lines():
        typer.echo(f"{'protocol':<11} {line}")
    page = write_page(task, outcome, num_queries=queries, num_hits=hits, beside=tuple(beside or ()))
    typer.echo(f"{'page':<11} {page}")


@command(
    app,
    "knn",
    "gdt evaluate knn --run runs/simclr --train data/shards/train --test data/shards/val",
)
def knn(
    run: Run,
    train: Train,
    test: Test,
    k: Counts = "1,5,20",
    modality: Modality = None,
    segments: Segments = 4,
    out: Out = None,
    untrained: Untrained = True,
    batch_size: BatchSize = 32,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Find labels by the nearest neighbours of frozen features."""
    ks = parse_counts("--k", k)
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.knn import Knn

    _evaluate(
        Knn(ks),
        places=evenly(segments),
        run=run,
        data={"train": train, "test": test},
        modalities=tuple(modality or ()),
        out=out,
        untrained=untrained,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )


@command(
    app,
    "linear-probe",
    "gdt evaluate linear-probe --run runs/first --train ucf/train --test ucf/test",
)
def linear_probe(
    run: Run,
    train: Train,
    test: Test,
    modality: Modality = None,
    segments: Segments = 4,
    out: Out = None,
    untrained: Untrained = True,
    batch_size: BatchSize = 32,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Find labels by a logistic regression on frozen features."""
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.linear_probe import LinearProbe

    _evaluate(
        LinearProbe(),
        places=evenly(segments),
        run=run,
        data={"train": train, "test": test},
        modalities=tuple(modality or ()),
        out=out,
        untrained=untrained,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )


@command(
    app,
    "few-shot",
    "gdt evaluate few-shot --run runs/first --train ucf/train --test ucf/test --shots 1,5",
)
def few_shot(
    run: Run,
    train: Train,
    test: Test,
    shots: Counts = "1,5,20",
    draws: Annotated[int, typer.Option(min=2, help="How often the few clips are drawn.")] = 10,
    modality: Modality = None,
    segments: Segments = 4,
    out: Out = None,
    untrained: Untrained = True,
    batch_size: BatchSize = 32,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Find labels from few labelled clips of each."""
    counts = parse_counts("--shots", shots)
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.few_shot import FewShot

    _evaluate(
        FewShot(counts, draws),
        places=evenly(segments),
        run=run,
        data={"train": train, "test": test},
        modalities=tuple(modality or ()),
        out=out,
        untrained=untrained,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )


@command(
    app,
    "clustering",
    "gdt evaluate clustering --run runs/first --test ucf/test --modality video",
)
def clustering(
    run: Run,
    test: Annotated[str, typer.Option(help="Labelled data set whose clips are clustered.")],
    seeds: Annotated[int, typer.Option(min=2, help="How often k-means begins anew.")] = 5,
    modality: Modality = None,
    segments: Segments = 4,
    out: Out = None,
    untrained: Untrained = True,
    batch_size: BatchSize = 32,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Do clusters of frozen features fall together with the labels?"""
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.clustering import Clustering

    _evaluate(
        Clustering(seeds),
        places=evenly(segments),
        run=run,
        data={"test": test},
        modalities=tuple(modality or ()),
        out=out,
        untrained=untrained,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )


@command(
    app,
    "audio-svm",
    "gdt evaluate audio-svm --run runs/first --test esc50",
)
def audio_svm(
    run: Run,
    test: Annotated[str, typer.Option(help="Labelled data set; with folds, or beside --train.")],
    train: MaybeTrain = None,
    modality: Modality = None,
    segments: Segments = 10,
    out: Out = None,
    untrained: Untrained = True,
    batch_size: BatchSize = 32,
    threads: Threads = 2,
    device: Device = "auto",
) -> None:
    """Classify sounds by a linear SVM on segments, over folds (ESC-50) or a test set (DCASE)."""
    from tools.evaluation.runner import evenly, roles_of
    from tools.evaluation.tasks.audio_svm import AudioSvm

    _evaluate(
        AudioSvm(),
        places=evenly(segments),
        run=run,
        data=roles_of(train, test, None, needs_train=False),
        modalities=tuple(modality or ("audio",)),
        out=out,
        untrained=untrained,
        batch_size=batch_size,
        threads=threads,
        device=device,
    )


@command(
    app,
    "results",
    "gdt evaluate results runs/first runs/second",
)
def results(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of results.")],
) -> None:
    """Show the results of runs side by side, data set by data set."""
    from tools.evaluation.side_by_side import find_evaluations, print_side_by_side

    print_side_by_side(find_evaluations(runs))


@command(
    app,
    "protocols",
    "gdt evaluate protocols",
    "gdt evaluate protocols selavi",
)
def protocols(
    name: Annotated[str | None, typer.Argument(help="Show this one as TOML, to copy.")] = None,
) -> None:
    """Show the protocols of retrieval, and what each is."""
    from tools.evaluation.protocol import load_protocol, preset_names, protocol_text

    if name is not None:
        typer.echo(protocol_text(name), nl=False)
        return
    for preset in preset_names():
        lines = load_protocol(preset).lines()
        typer.echo("\n   ".join(lines))


def parse_counts(option: str, text: str) -> tuple[int, ...]:
    """Return the numbers of "1,5,20".

    Raises:
        typer.BadParameter: something else.
    """
    try:
        counts = tuple(int(part) for part in text.split(","))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise typer.BadParameter(
            f"{option} {text}: must be whole numbers from 1 on with commas between, like 1,5,20"
        )
    return counts


def _evaluate(task: "Task", *, places: Sequence[float], **asked: Any) -> "Outcome":
    """Run a task, print its table."""
    from tools.evaluation.result import print_evaluation
    from tools.evaluation.runner import Request, evaluate

    outcome = evaluate(task, Request(places=tuple(places), **asked))
    print_evaluation(outcome.result, task.title, outcome.out)
    return outcome
