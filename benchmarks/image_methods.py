"""A learning curve of every image method on one set of pictures.

The pictures are the 1,900 handwritten digits (MNIST) that come with this package, so that nothing
is fetched: 1,500 to learn from, without their labels; 500 of these, with them, for kNN and linear
probe; and 400 that are held out. They are gray; for CMC alone, which compares brightness with
colour, each is drawn in an ink and on a paper of its own colour, which makes them much harder.

All methods get the same: encoder (but for MAE, which takes a ViT), views, optimizer, steps, seeds;
and sizes of heads that go with it. Few choices saw held-out scores, of one seed: gray digits rather
than coloured ones, and SwAV's number of prototypes. Beside each stand its encoder before the first
step, raw pixels, chance, and, where lightly has the method, lightly's in a plain loop on the same
views (benchmarks/lightly_methods.py).

    python -m benchmarks.image_methods --into docs/results.md --column docs/methods.md
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from benchmarks.lightly_methods import LIGHTLY, train_lightly
from benchmarks.method_column import fill_column
from benchmarks.trials import (
    TRAINED,
    UNTRAINED,
    Column,
    Failed,
    Setting,
    Trial,
    kept_trials,
    mean_and_spread,
    put_into,
    run_trials,
    values_of,
)
from models import METHODS, RunFacts, build_method
from models import Setting as MethodSetting
from tools.display.style import ACCENT, FAINT, LABEL, WARM, headline, new_figure, plain_axes, save
from tools.evaluation.neighbors import LabelledFeatures, predict
from tools.evaluation.result import CHANCE
from tools.evaluation.split import unit_rows
from tools.evaluation.tasks.knn import Knn
from tools.evaluation.tasks.linear_probe import LinearProbe, fit_and_answer
from tools.sample_data.digit_material import TEST_PICTURES, Material, packaged_material

CONFIG: Final = Path(__file__).with_suffix(".toml")
BEGIN: Final = "<!-- table: python -m benchmarks.image_methods --into docs/results.md -->"
GRAY, COLOURS = "gray", "colours"
KNOWN_PICTURES: Final = 50  # of each digit: labels that kNN and the linear probe are told
KNN: Final = Column("kNN", "knn", "image", "accuracy, k = 5")
PROBE: Final = Column("linear probe", "linear-probe", "image", "accuracy")
SUFFIX: Final = ", lightly"
#: Of the linear probe: one for all, so that a score is one fit.
COST: Final = 0.1

#: Nine pieces of a picture, each cut on its own.
PIECES: Final = "{ grid = 3, size = 8, scales = [0.6, 1.0], patch_scales = [0.567, 0.567] }"
TWO_VIEWS: Final = ("plan.augmentation.relation=invariant", "plan.augmentation.draws=2")
#: Sizes of heads, where a method has them.
SIZES: Final = {"hidden_dim": 256, "embedding_dim": 64}
#: What else a method takes here; of a method that is not named, two views and its own defaults.
RECIPES: Final[dict[str, tuple[str, ...]]] = {
    "simclr": (*TWO_VIEWS, "method.temperature=0.2"),
    "moco": (
        *TWO_VIEWS,
        "method.temperature=0.2",
        "method.momentum=0.95",
        "method.queue_size=512",
        "method.batch_norm_groups=2",
    ),
    "moco_v3": (*TWO_VIEWS, "method.temperature=0.2", "method.momentum=0.95"),
    "byol": (*TWO_VIEWS, "method.momentum=0.95"),
    "simsiam": (*TWO_VIEWS, "method.embedding_dim=256", "method.predictor_dim=64"),
    "barlow_twins": (*TWO_VIEWS, "method.embedding_dim=256"),
    "swav": (*TWO_VIEWS, "method.num_prototypes=30", "method.frozen_prototype_steps=0"),
    "dino": (
        *TWO_VIEWS,
        "method.num_outputs=256",
        "method.momentum=0.95",
        "method.frozen_epochs=0",
    ),
    "mae": (
        "encoders.image=vit_mini",
        "encoders.patch_size=4",
        "method.decoder_dim=64",
        "method.decoder_depth=1",
        "method.decoder_heads=4",
    ),
    "pixpro": (*TWO_VIEWS, "method.momentum=0.95", "image_augment.size=32"),
    "instdisc": ("method.num_negatives=512",),
    "cmc": (
        "method.num_negatives=512",
        "encoders.channel_groups=[1, 2]",
        "image_augment.channels=lab",
        "image_augment.mean=[50.0, 0.0, 0.0]",
        "image_augment.std=[25.0, 25.0, 25.0]",
    ),
    "pcl": (
        *TWO_VIEWS,
        "method.temperature=0.2",
        "method.momentum=0.95",
        "method.queue_size=512",
        "method.num_prototypes=[30, 60]",
        "method.negative_prototypes=512",
        "method.batch_norm_groups=2",
        "method.from_epoch=2",
    ),
    "deepcluster_v2": (*TWO_VIEWS, "method.num_prototypes=[30, 30, 30]"),
    "sela": ("method.num_clusters=30", "method.num_heads=3"),
    "block_contrast": TWO_VIEWS,
    "pirl": (
        *TWO_VIEWS,
        "method.num_negatives=512",
        f"image_augment.views=[{{ count = 1 }}, {PIECES}]",
    ),
    "infomin": (
        *TWO_VIEWS,
        "plan.augmentation.draws=3",
        "method.temperature=0.2",
        "method.momentum=0.95",
        "method.queue_size=512",
        "method.batch_norm_groups=2",
        f"image_augment.views=[{{ count = 2 }}, {PIECES}]",
    ),
    "deepcluster": ("method.num_clusters=30", "method.pca_dim=64"),
    "detco": (
        *TWO_VIEWS,
        "plan.augmentation.draws=4",
        "method.momentum=0.95",
        "method.queue_size=512",
        f"image_augment.views=[{{ count = 2 }}, {PIECES}, {PIECES}]",
    ),
}
#: Methods that are left out, and why; what else cannot be built says so itself.
LEFT_OUT: Final = {
    "gdt": "on pictures alone it is SimCLR: the same plan, the same loss",
    "classifier": "learns from labels",
    "distillation": "learns from a teacher, which learned from labels",
    "crw": "walks through the frames of a clip",
    "cpc_image": "predicts patches five rows down, for which 16 pixels have no room",
}


def draw_pictures(folder: Path, material: Material | None = None) -> None:
    """Write folder/KIND/PART/DIGIT/N.png once: gray and in colours; train, known and test.

    `known` are those of `train` whose labels are told to kNN and the linear probe.
    """
    if folder.exists():
        return
    material, partial = material or packaged_material(), folder.with_name(folder.name + ".partial")
    for digit in range(10):
        for place, number in enumerate(np.flatnonzero(material.picture_digits == digit).tolist()):
            gray = material.pictures[number]
            is_known = TEST_PICTURES <= place < TEST_PICTURES + KNOWN_PICTURES
            parts = ["test"] if place < TEST_PICTURES else ["train"] + ["known"] * is_known
            for kind, picture in ((GRAY, gray), (COLOURS, in_colours(gray, number))):
                for part in parts:
                    at = partial / kind / part / str(digit)
                    at.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(picture).save(at / f"{number}.png")
    partial.rename(folder)


def in_colours(picture: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """A gray picture [H, W] in an ink and on a paper, [H, W, 3], whose brightness differs."""
    rng = np.random.default_rng(seed)
    ink, paper = rng.random((2, 3))
    while abs((ink - paper) @ [0.299, 0.587, 0.114]) < 0.3:
        ink, paper = rng.random((2, 3))
    share = picture[:, :, None] / 255
    return np.asarray((255 * (share * ink + (1 - share) * paper)).round(), np.uint8)


def settings(
    pictures: Path, names: Sequence[str], steps: int, every: int, *, lightly: bool = True
) -> tuple[list[Setting], dict[str, str]]:
    """What can be run of the named methods, and why the others cannot."""
    found, left_out = [], {name: why for name, why in LEFT_OUT.items() if name in names}
    for name in names:
        if name in left_out:
            continue
        keys = {field.name for field in fields(METHODS[name].options_type)}
        sizes = tuple(f"method.{key}={value}" for key, value in SIZES.items() if key in keys)
        at = pictures / (COLOURS if name == "cmc" else GRAY)
        setting = Setting(
            name=name,
            config=str(CONFIG),
            overrides=(
                f"data.shards={at / 'train'}",
                f"trainer.max_steps={steps}",
                f"method.name={name}",
                *sizes,
                *RECIPES.get(name, TWO_VIEWS),
            ),
            data={"train": at / "known", "test": at / "test"},
            tasks=(Knn((5,)), LinearProbe((COST,))),
            score_every=every,
        )
        try:
            _build(setting)
        except Exception as error:  # noqa: BLE001 - why it cannot be had here is what is shown
            why = " ".join(str(error).split()).removeprefix(f"{CONFIG}: ")
            left_out[name] = why or type(error).__name__
            continue
        found.append(setting)
        if lightly and name in LIGHTLY:
            found.append(replace(setting, name=name + SUFFIX, train=train_lightly))
    return found, left_out


def _build(setting: Setting) -> None:
    """Build the method once: what it refuses is why it is left out."""
    config = setting.resolved(0)
    facts = RunFacts(1500, config.data.batch_size, 23, 96)
    build_method(config.method, MethodSetting(config.build_plan(), config.encoders, facts))


def raw_pixels(pictures: Path) -> tuple[float, float]:
    """Accuracy of kNN and of the linear probe on the gray pictures' own values."""
    sides: dict[str, tuple[npt.NDArray[np.float32], list[str]]] = {}
    for role in ("known", "test"):
        paths = sorted((pictures / GRAY / role).rglob("*.png"))
        rows = np.stack([np.asarray(Image.open(path), np.float32).reshape(-1) for path in paths])
        sides[role] = unit_rows(rows), [path.parent.name for path in paths]
    (train, known), (test, labels) = sides["known"], sides["test"]
    voters = LabelledFeatures(torch.from_numpy(train), tuple(known))
    answers = (
        predict(voters, torch.from_numpy(test), 5),
        fit_and_answer(train, known, test, (COST,)),
    )
    knn, probe = (float(np.mean(np.array(found) == np.array(labels))) for found in answers)
    return knn, probe


def table(
    results: Mapping[str, Sequence[Trial | Failed]],
    left_out: Mapping[str, str],
    pixels: tuple[float, float],
) -> str:
    """Curves of kNN, and both scores at the end beside the untrained encoder and lightly."""
    done = [t for trials in results.values() for t in trials if isinstance(t, Trial)]
    steps = done[0].scored_steps() if done else []
    titles = [f"kNN {step}" for step in (0, *steps)]
    titles += ["lightly's kNN", "probe 0", f"probe {steps[-1]}" if steps else "probe"]
    titles += ["lightly's probe", "CPU s"]
    lines = [f"| method | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for name, trials in results.items():
        if name.endswith(SUFFIX):
            continue
        theirs = results.get(name + SUFFIX, [])
        cells = [mean_and_spread(values_of(trials, KNN, UNTRAINED))]
        cells += [mean_and_spread(values_of(trials, KNN, TRAINED, step)) for step in steps]
        cells += [mean_and_spread(values_of(theirs, KNN))]
        cells += [mean_and_spread(values_of(trials, PROBE, UNTRAINED))]
        cells += [mean_and_spread(values_of(rows, PROBE)) for rows in (trials, theirs)]
        seconds = [t.cpu_seconds for t in trials if isinstance(t, Trial) and t.cpu_seconds]
        cells += [f"{np.mean(seconds):.0f}" if seconds else "-"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    blank = ["-"] * len(steps)
    row = [f"{100 * pixels[0]:.1f}", *blank, "-", f"{100 * pixels[1]:.1f}", "-", "-", "-"]
    lines.append(f"| raw pixels | {' | '.join(row)} |")
    chance = 100 * values_of(done, KNN, CHANCE)[0] if done else 10
    row = [f"{chance:.1f}", *blank, "-", f"{chance:.1f}", "-", "-", "-"]
    lines.append(f"| chance | {' | '.join(row)} |")
    failures = [t for trials in results.values() for t in trials if isinstance(t, Failed)]
    lines += [f"\n{f.name}, seed {f.seed}, failed: {f.reason}" for f in failures]
    known = {name: why for name, why in left_out.items() if name in LEFT_OUT or name in RECIPES}
    if known:
        lines += ["\nLeft out:\n", "| method | why |", "| --- | --- |"]
        lines += [f"| {name} | {why} |" for name, why in known.items()]
    if others := [name for name in left_out if name not in known]:
        lines += [f"\nNot for single pictures of one kind: {', '.join(others)}."]
    return "\n".join(lines)


def in_a_cell(trials: Sequence[Trial | Failed]) -> str:
    """Both scores at the end, beside the untrained encoder's, for a cell of docs/methods.md."""
    scores = []
    for column in (KNN, PROBE):
        trained, untrained = (
            mean_and_spread(values_of(trials, column, of)) for of in (TRAINED, UNTRAINED)
        )
        scores.append(f"{column.title} {trained} ({untrained})")
    return ", ".join(scores)


def draw_curves(
    results: Mapping[str, Sequence[Trial | Failed]], pixels: float, out: Path, title: str
) -> None:
    """A panel a method: kNN over the steps, ours and lightly's, beside raw pixels."""
    ours = [name for name in results if not name.endswith(SUFFIX) and values_of(results[name], KNN)]
    across = 5
    down = -(-len(ours) // across)
    figure = new_figure(2.1 * across + 0.4, 1.75 * down + 0.75)
    width, height = figure.get_size_inches()
    for place, name in enumerate(ours):
        row, column = divmod(place, across)
        left, bottom = 0.45 + 2.1 * column, height - 0.85 - 1.75 * (row + 1) + 0.55
        axes = figure.add_axes((left / width, bottom / height, 1.75 / width, 1.2 / height))
        for key, colour, style in ((name, ACCENT, "-"), (name + SUFFIX, WARM, "--")):
            trials = [t for t in results.get(key, []) if isinstance(t, Trial)]
            for trial in trials:
                steps = trial.scored_steps()
                values = [trial.value(KNN, UNTRAINED)]
                values += [trial.value(KNN, TRAINED, step) for step in steps]
                shares = [100 * value for value in values if value is not None]
                axes.plot([0, *steps], shares, style, color=colour, linewidth=1, alpha=0.7)
        axes.axhline(100 * pixels, color=FAINT, linewidth=0.8, linestyle=":")
        axes.set_title(name, loc="left", **LABEL)
        axes.set_ylim(0, 100)
        plain_axes(axes, grid="y")
    headline(figure, title, "blue: ours · red, dashed: lightly's · dotted: raw pixels")
    save(figure, out)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_methods", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/image_methods"), help="trials")
    parser.add_argument("--methods", help="with commas between; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--every", type=int, default=48, help="steps between scores")
    parser.add_argument("--kept", action="store_true", help="show what is in --out, run nothing")
    parser.add_argument("--into", type=Path, help="a Markdown file whose table to replace")
    parser.add_argument("--column", type=Path, help="a page like docs/methods.md, to fill in")
    parser.add_argument("--picture", type=Path, help="PNG of the curves; in --out by default")
    asked = parser.parse_args()
    pictures = asked.out / "pictures"
    asked.out.mkdir(parents=True, exist_ok=True)
    draw_pictures(pictures)
    names = asked.methods.split(",") if asked.methods else list(METHODS)
    found, left_out = settings(pictures, names, asked.steps, asked.every)
    began = time.process_time()
    run = kept_trials if asked.kept else run_trials
    results = run(found, range(asked.seeds), asked.out)
    cpu_minutes = (time.process_time() - began) / 60
    pixels = raw_pixels(pictures)
    text = table(results, left_out, pixels)
    print(text)
    if not asked.kept:
        print(f"{cpu_minutes:.0f} CPU minutes")
    draw_curves(
        results,
        pixels[0],
        asked.picture or asked.out / "curves.png",
        f"kNN of held-out digits over {asked.steps} steps (%)",
    )
    if asked.into is not None:
        today = f"{datetime.now(tz=UTC):%Y-%m-%d}, torch {torch.__version__}, seeds: {asked.seeds}."
        put_into(asked.into, BEGIN, f"{text}\n\n{today}")
    if asked.column is not None:
        ours = {name: trials for name, trials in results.items() if not name.endswith(SUFFIX)}
        done = {name: in_a_cell(trials) for name, trials in ours.items() if values_of(trials, KNN)}
        fill_column(asked.column, done)


if __name__ == "__main__":
    main()
