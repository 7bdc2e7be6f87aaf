"""Does c do what it says? Nine hypotheses, and what their models tell apart: docs/factors.md.

    python -m benchmarks.factors FOLDER --into docs/factors.md --picture docs/images/factors.png

A model is trained under each of the paper's nine hypotheses, from each of several seeds, on two
corpora, and then asked, on clips it never saw, what it tells apart:

    own direction     is a segment nearer, in the other modality, to itself than to itself reversed?
    own segment       which of the clip's 4 segments in the other modality is nearest?
    reversed?         a logistic regression on one row: is it played backwards?
    which segment?    likewise: which of the 4 is it?
    label             likewise: what does the clip show?

Of embeddings, and of the encoder's features under the head; beside the model before its first step.

    FOLDER/data, FOLDER/shards    the corpora, made where they are not there yet
    FOLDER/trials/*.json          what one model answered; delete one, or take another folder, to
                                  train it again, as after a change of the code
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.factor_trial import (
    BATCH_SIZE,
    CHANCE,
    Clips,
    Corpus,
    new_method,
    scores_of,
    train,
)
from benchmarks.trials import mean_and_spread
from gdt import named_plan
from shards import BuildOptions
from shards.building.build import build
from tools.display.style import (
    ACCENT,
    FAINT,
    INK,
    LABEL,
    NOTE,
    WARM,
    headline,
    new_figure,
    plain_axes,
)
from tools.display.style import save as save_picture
from tools.sample_data.digits import build_digits
from tools.sample_data.timeline import build_timeline

HYPOTHESES: Final = (
    "cross_modal_baseline",
    "i_reversal",
    "v_reversal",
    "i_shift",
    "v_shift",
    "i_reversal_i_shift",
    "i_reversal_v_shift",
    "v_reversal_i_shift",
    "v_reversal_v_shift",
)
UNTRAINED: Final = "untrained"
BEGIN: Final = "<!-- tables: python -m benchmarks.factors FOLDER --into docs/factors.md -->"
END: Final = "<!-- end -->"
#: corpus → how its videos are made, and the options of its shards
_MADE: Final[dict[str, tuple[Callable[..., None], BuildOptions]]] = {
    "timeline": (build_timeline, BuildOptions(clip_seconds=4, fps=16, size=(48, 48))),
    "digits": (build_digits, BuildOptions(clip_seconds=1, fps=10, size=(64, 64))),
}
_VIDEOS: Final = {"timeline": (240, 96), "digits": (480, 160)}
_SEGMENTS: Final = {"timeline": (1.0, 8, 13, 4), "digits": (0.5, 5, 7, 2)}
Scores = dict[str, dict[str, float]]


def corpus_of(name: str, folder: Path) -> Corpus:
    """A corpus in a folder, made if it is not there."""
    make, options = _MADE[name]
    videos, shards = folder / "data" / name, folder / "shards" / name
    if not (videos / "labels.csv").exists():
        make(videos, *_VIDEOS[name])
    for part in ("train", "val"):
        if not (shards / part / "manifest.json").exists():
            build([videos / part], shards / part, options, labels=videos / "labels.csv")
    return Corpus(name, shards / "train", shards / "val", *_SEGMENTS[name])


def trial(
    name: str, corpus: Corpus, decoded: tuple[Clips, Clips], seed: int, steps: int, folder: Path
) -> Scores:
    """What a model answers, from disk where it has been asked."""
    path = folder / f"{corpus.name}-{name}-seed-{seed}-{steps}-steps.json"
    if path.exists():
        kept: Scores = json.loads(path.read_text())["scores"]
        return kept
    began = time.process_time()
    if name == UNTRAINED:
        method = new_method(named_plan(HYPOTHESES[0]), len(decoded[0]), seed, steps).eval()
    else:
        method = train(name, corpus, decoded[0], seed, steps)
    scores = scores_of(method, *decoded)
    seconds = time.process_time() - began
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps({"scores": scores, "cpu_seconds": seconds}, indent=1) + "\n")
    partial.replace(path)
    own = {k: round(100 * v) for k, v in scores["embeddings"].items()}
    print(f"{corpus.name} {name} seed {seed}: {seconds:.0f} CPU s, {own}", flush=True)
    return scores


def table(results: dict[str, list[Scores]], num_labels: int) -> str:
    """A Markdown table: a row a plan; mean ± spread over seeds, of embeddings and of features."""
    columns = [("embeddings", q) for q in CHANCE] + [
        ("features", q) for q in CHANCE if q in next(iter(results.values()))[0]["features"]
    ]
    titles = [q if layer == "embeddings" else f"{q} (features)" for layer, q in columns]
    lines = [f"| plan | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name, scores in results.items():
        cells = [mean_and_spread([s[layer][q] for s in scores]) for layer, q in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    chances = [f"{100 * CHANCE[q](num_labels):.1f}" for _, q in columns]
    return "\n".join([*lines, f"| chance | {' | '.join(chances)} |"])


def draw(tables: dict[str, tuple[dict[str, list[Scores]], int]], out: Path) -> None:
    """One picture: a row a corpus, a column a question, in each the plans under one another."""
    rows = max(len(results) for results, _ in tables.values())
    width, height = 13.0, 0.8 + len(tables) * (0.22 * rows + 0.75)
    figure = new_figure(width, height)
    headline(
        figure,
        "What a model tells apart, by what its c asks for",
        "blue: embeddings · red: features under the head · dots: seeds · strokes: their mean",
    )
    left, gap = 1.75 / width, 0.16 / width
    panel = (1 - left - 0.2 / width) / len(CHANCE)
    tall = 0.22 * rows / height
    for line, (corpus, (results, num_labels)) in enumerate(tables.items()):
        bottom = 1 - (0.95 + line * (0.22 * rows + 0.75)) / height - tall
        for number, (question, chance) in enumerate(CHANCE.items()):
            axes = figure.add_axes((left + number * panel, bottom, panel - gap, tall))
            axes.axvline(100 * chance(num_labels), color=FAINT, linewidth=1, linestyle=":")
            for place, scores in enumerate(results.values()):
                for layer, colour, lift in (
                    ("features", WARM, 0.14),
                    ("embeddings", ACCENT, -0.14),
                ):
                    values = [100 * s[layer][question] for s in scores if question in s[layer]]
                    if values:
                        at = [place + lift] * len(values)
                        axes.plot(values, at, "o", color=colour, alpha=0.4, markersize=3.5, mew=0)
                        axes.plot(
                            statistics.fmean(values), at[0], "|", color=colour, markersize=8, mew=2
                        )
            axes.set_xlim(0, 103)
            axes.set_ylim(len(results) - 0.5, -0.5)
            axes.set_yticks(range(len(results)), list(results) if number == 0 else [])
            axes.set_title(question if line == 0 else "", **LABEL)
            plain_axes(axes, grid="x")
            if number == 0:
                axes.tick_params(axis="y", labelcolor=INK, labelsize=8)
        figure.text(0.35 / width, bottom + tall + 0.08 / height, f"{corpus} (%)", **NOTE)
    save_picture(figure, out)


def run(
    folder: Path, corpora: Sequence[str], plans: Sequence[str], seeds: int, steps: int
) -> dict[str, tuple[dict[str, list[Scores]], int]]:
    """Corpus → plan → what it answered, one entry a seed; and the number of labels."""
    tables: dict[str, Any] = {}
    for name in corpora:
        corpus = corpus_of(name, folder)
        decoded = Clips.decode(corpus, corpus.train), Clips.decode(corpus, corpus.val)
        results: dict[str, list[Scores]] = {plan: [] for plan in (UNTRAINED, *plans)}
        for seed in range(seeds):
            for plan, found in results.items():
                found.append(trial(plan, corpus, decoded, seed, steps, folder / "trials"))
        tables[name] = results, int(decoded[1].labels.max()) + 1
    return tables


def main() -> None:
    """Parse, run, print, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--corpora", nargs="+", default=list(_MADE), choices=list(_MADE))
    parser.add_argument("--plans", nargs="+", default=list(HYPOTHESES), choices=HYPOTHESES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--picture", type=Path, help="PNG; in FOLDER by default")
    parser.add_argument("--into", type=Path, help="a Markdown file whose tables to replace")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    results = run(asked.folder, asked.corpora, asked.plans, asked.seeds, asked.steps)
    draw(results, asked.picture or asked.folder / "factors.png")
    kept = (asked.folder / "trials").glob(f"*-{asked.steps}-steps.json")
    minutes = sum(json.loads(path.read_text())["cpu_seconds"] for path in kept) / 60
    text = "\n\n".join(
        f"{name}:\n\n{table(of_plan, num_labels)}"
        for name, (of_plan, num_labels) in results.items()
    )
    text += (
        f"\n\nMean and standard deviation over {asked.seeds} seeds, in per cent; {asked.steps} "
        f"steps of {BATCH_SIZE} clips each. {datetime.now(UTC):%Y-%m-%d}, "
        f"{minutes:.0f} CPU minutes."
    )
    print(text)
    if asked.into is not None:
        whole = asked.into.read_text(encoding="utf-8")
        before, after = whole.split(BEGIN)[0], whole.split(END, 1)[1]
        asked.into.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
