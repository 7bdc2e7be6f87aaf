"""The tasks of `gdt evaluate` that are about labels, one function and its examples each."""

from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal

import typer

from tools.commands.task_flags import TaskFlags

Train = Annotated[str, typer.Option(help="Labelled data set to learn from.")]
MaybeTrain = Annotated[str | None, typer.Option(help="Labelled data set to learn from.")]
Test = Annotated[str, typer.Option(help="Data set that is scored.")]
Segments = Annotated[int, typer.Option(min=1, help="Evenly spaced segments of a clip.")]
Untrained = Annotated[
    bool, typer.Option(help="Score the encoder as it was before its first step, too.")
]
Counts = Annotated[str, typer.Option(help="One or several, with commas between.")]


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


#: Name of a task → its function, whose flags are those of `gdt evaluate NAME`, and examples.
TASKS: Final[Mapping[str, tuple[Callable[..., None], tuple[str, ...]]]] = {
    "knn": (
        knn,
        ("gdt evaluate knn --run runs/simclr --train data/shards/train --test data/shards/val",),
    ),
    "linear-probe": (
        linear_probe,
        ("gdt evaluate linear-probe --run runs/first --train ucf/train --test ucf/test",),
    ),
    "few-shot": (
        few_shot,
        ("gdt evaluate few-shot --run runs/first --train ucf/train --test ucf/test --shots 1,5",),
    ),
    "clustering": (
        clustering,
        ("gdt evaluate clustering --run runs/first --test ucf/test --modality video",),
    ),
    "audio-svm": (
        audio_svm,
        (
            "gdt evaluate audio-svm --run runs/first --test ESC-50 --layer maps --seconds 2",
            "gdt evaluate audio-svm --run runs/first --train DCASE/train.txt --test DCASE/test.txt",
        ),
    ),
    "zero-shot": (
        zero_shot,
        ("gdt evaluate zero-shot --run runs/clip --test ucf/test --prompt 'a video of {}'",),
    ),
    "classification": (
        classification,
        ("gdt evaluate classification --run runs/tuned --test ucf/test --segments 10 --crops 3",),
    ),
}
