"""`gdt evaluate`: what a pretrained model has learned, in numbers beside chance."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from tools.commands.flag_groups import with_flag_groups
from tools.commands.group import command, group
from tools.commands.task_flags import TaskFlags
from tools.say import say

app = group("What a model has learned, beside chance.")

Train = Annotated[str, typer.Option(help="Labelled data set to learn from.")]
MaybeTrain = Annotated[str | None, typer.Option(help="Labelled data set to learn from.")]
Test = Annotated[str, typer.Option(help="Data set that is scored.")]
Segments = Annotated[int, typer.Option(min=1, help="Evenly spaced segments of a clip.")]
Untrained = Annotated[
    bool, typer.Option(help="Score the encoder as it was before its first step, too.")
]
Counts = Annotated[str, typer.Option(help="One or several, with commas between.")]


@command(
    app,
    "retrieval",
    "gdt evaluate retrieval --run runs/first --shards data/shards/val",
    "gdt evaluate retrieval --run runs/first --train ucf/train --test ucf/test --protocol selavi",
)
@with_flag_groups
def retrieval(
    flags: TaskFlags,
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
    segments: Annotated[
        int | None, typer.Option(min=1, help="Segments a clip, in place of the protocol's.")
    ] = None,
    faiss: Annotated[
        str, typer.Option(help="R@k by flat, ivf, hnsw or auto beside the exact; none: that alone.")
    ] = "none",
    queries: Annotated[int, typer.Option(min=1, help="Queries a direction on the page.")] = 12,
    hits: Annotated[int, typer.Option(min=1, help="Top hits of each query on the page.")] = 5,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Run folder whose results the page shows beside.")
    ] = None,
    untrained: Untrained = True,
) -> None:
    """Find the video for a sound, the sound for a video, and clips of the same label."""
    from tools.evaluation.protocol import load_protocol, read_gallery_list, with_segments
    from tools.evaluation.retrieval_report import write_page
    from tools.evaluation.runner import roles_of
    from tools.evaluation.tasks.retrieval import Retrieval
    from tools.runs.run import choose_device

    chosen = with_segments(load_protocol(protocol), segments)
    listed = None if keys is None else read_gallery_list(keys)
    task = Retrieval(chosen, listed, choose_device(flags.device), faiss)
    outcome = flags.score(
        task,
        places=chosen.places,
        data=roles_of(train, test, shards, needs_train=False),
        untrained=untrained,
    )
    for line in chosen.lines():
        say(f"{'protocol':<11} {line}")
    page = write_page(task, outcome, num_queries=queries, num_hits=hits, beside=tuple(beside or ()))
    say(f"{'page':<11} {page}")


@command(
    app,
    "knn",
    "gdt evaluate knn --run runs/simclr --train data/shards/train --test data/shards/val",
)
@with_flag_groups
def knn(
    flags: TaskFlags,
    train: Train,
    test: Test,
    k: Counts = "1,5,20",
    segments: Segments = 4,
    untrained: Untrained = True,
) -> None:
    """Find labels by the nearest neighbours of frozen features."""
    ks = parse_counts("--k", k)
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.knn import Knn

    flags.score(
        Knn(ks),
        places=evenly(segments),
        data={"train": train, "test": test},
        untrained=untrained,
    )


@command(
    app,
    "linear-probe",
    "gdt evaluate linear-probe --run runs/first --train ucf/train --test ucf/test",
)
@with_flag_groups
def linear_probe(
    flags: TaskFlags,
    train: Train,
    test: Test,
    segments: Segments = 4,
    untrained: Untrained = True,
) -> None:
    """Find labels by a logistic regression on frozen features."""
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.linear_probe import LinearProbe

    flags.score(
        LinearProbe(),
        places=evenly(segments),
        data={"train": train, "test": test},
        untrained=untrained,
    )


@command(
    app,
    "few-shot",
    "gdt evaluate few-shot --run runs/first --train ucf/train --test ucf/test --shots 1,5",
)
@with_flag_groups
def few_shot(
    flags: TaskFlags,
    train: Train,
    test: Test,
    shots: Counts = "1,5,20",
    draws: Annotated[int, typer.Option(min=2, help="How often the few clips are drawn.")] = 10,
    segments: Segments = 4,
    untrained: Untrained = True,
) -> None:
    """Find labels from few labelled clips of each."""
    counts = parse_counts("--shots", shots)
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.few_shot import FewShot

    flags.score(
        FewShot(counts, draws),
        places=evenly(segments),
        data={"train": train, "test": test},
        untrained=untrained,
    )


@command(
    app,
    "clustering",
    "gdt evaluate clustering --run runs/first --test ucf/test --modality video",
)
@with_flag_groups
def clustering(
    flags: TaskFlags,
    test: Annotated[str, typer.Option(help="Labelled data set whose clips are clustered.")],
    seeds: Annotated[int, typer.Option(min=2, help="How often k-means begins anew.")] = 5,
    segments: Segments = 4,
    untrained: Untrained = True,
) -> None:
    """Do clusters of frozen features fall together with the labels?"""
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.clustering import Clustering

    flags.score(
        Clustering(seeds),
        places=evenly(segments),
        data={"test": test},
        untrained=untrained,
    )


@command(
    app,
    "audio-svm",
    "gdt evaluate audio-svm --run runs/first --test ESC-50 --layer maps --seconds 2",
    "gdt evaluate audio-svm --run runs/first --train DCASE/train.txt --test DCASE/test.txt",
)
@with_flag_groups
def audio_svm(
    flags: TaskFlags,
    test: Annotated[str, typer.Option(help="Labelled data set; with folds, or beside --train.")],
    train: MaybeTrain = None,
    layer: Annotated[
        Literal["features", "maps"],
        typer.Option(help="What the encoder gives, or its last map, pooled over time alone."),
    ] = "features",
    segments: Segments = 10,
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Of a segment; the run's if absent.")
    ] = None,
    untrained: Untrained = True,
) -> None:
    """Classify sounds by a linear SVM on segments, over folds (ESC-50) or a test set (DCASE)."""
    from tools.evaluation.runner import end_to_end, roles_of
    from tools.evaluation.tasks.audio_svm import AudioSvm

    flags.score(
        AudioSvm(layer),
        places=end_to_end(segments),
        seconds=seconds,
        data=roles_of(train, test, None, needs_train=False),
        default_modalities=("audio",),
        untrained=untrained,
    )


@command(
    app,
    "zero-shot",
    "gdt evaluate zero-shot --run runs/clip --test ucf/test --prompt 'a video of {}'",
)
@with_flag_groups
def zero_shot(
    flags: TaskFlags,
    test: Test,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Sentence with {} for the label; repeatable.")
    ] = None,
    segments: Segments = 4,
    untrained: Untrained = True,
) -> None:
    """Find labels by their words, for runs with a text encoder."""
    from tools.evaluation.runner import evenly
    from tools.evaluation.tasks.zero_shot import ZeroShot
    from tools.runs.run import load_run

    run = load_run(flags.run)
    task = ZeroShot.of(run, prompt or ["{}"])
    flags.score(
        task,
        places=evenly(segments),
        data={"test": test},
        default_modalities=task.modalities,
        untrained=untrained,
        loaded=run,
    )


@command(
    app,
    "classification",
    "gdt evaluate classification --run runs/finetune --test ucf/test --segments 10 --crops 3",
)
@with_flag_groups
def classification(
    flags: TaskFlags,
    test: Test,
    segments: Segments = 10,
    crops: Annotated[int, typer.Option(min=1, help="Crops of each segment's frames.")] = 3,
) -> None:
    """Ask the classifier of a run that `gdt finetune` made."""
    classify(flags, test, segments, crops)


def classify(flags: TaskFlags, test: str, segments: int, crops: int) -> None:
    """Score a run's classifier on a data set; sound has no crops."""
    from tools.evaluation.runner import end_to_end
    from tools.evaluation.tasks.classification import Classification
    from tools.runs.run import load_run

    run = load_run(flags.run)
    flags.score(
        Classification.of(run),
        data={"test": test},
        places=end_to_end(segments),
        crops=crops if {"video", "image"} & set(run.plan.modalities) else 1,
        untrained=False,
        loaded=run,
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
        say(protocol_text(name), nl=False)
        return
    for preset in preset_names():
        lines = load_protocol(preset).lines()
        say("\n   ".join(lines))


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
