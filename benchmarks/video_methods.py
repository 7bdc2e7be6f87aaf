"""How well methods of correspondence follow objects, beside untrained features and colours.

Moving shapes (`gdt samples shapes`): textured shapes that turn and pass each other in changing
light. Every method takes its own config, on the same clips, in as many steps of as many clips; none
is tuned. Then the masks of first frames of held-out clips are carried on, and scored as DAVIS-2017
does. Beside each stand its encoder before the first step, matching by colour, and first masks that
stay where they are.

    python -m benchmarks.video_methods --out runs/video_methods --into docs/methods.md
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.trials import (
    TRAINED,
    UNTRAINED,
    Column,
    Failed,
    Setting,
    Trial,
    draw,
    mean_and_spread,
    run_trials,
    values_of,
)
from shards import BuildOptions
from shards.building.build import build
from tools.evaluation.result import Evaluation
from tools.propagation.evaluate import COLOR, STILL, PropagationRequest, evaluate_propagation
from tools.propagation.recipe import RECIPES, Recipe
from tools.sample_data.moving_shapes import MovingShapesOptions, build_moving_shapes

BEGIN: Final = "<!-- table: python -m benchmarks.video_methods --into docs/methods.md -->"
END: Final = "<!-- end of the table of video methods -->"
JF: Final = Column("J&F", "propagate", "objects", "J&F")
J: Final = Column("J", "propagate", "objects", "J mean")
F: Final = Column("F", "propagate", "objects", "F mean")
#: Methods that follow objects, by their configs' names, and what differs from those here.
CORRESPONDENCE: Final[dict[str, tuple[str, ...]]] = {
    "crw": (),
    "colorization": (),
    "mast": (),
    "udt": (),
    "timecycle": (),
    "uvc": ("method.warm_up_epochs=3",),
    "tracked_patches": ("method.random_epochs=2",),
}
RECIPE: Final = RECIPES["videowalk"].changed(num_previous=5, radius=6)


@dataclass(frozen=True)
class Propagation:
    """Masks of first frames, carried through held-out clips.

    Attributes:
        clips: their folder.
        recipe: how.
    """

    clips: Path
    recipe: Recipe
    name: str = "propagate"

    def settings(self) -> Mapping[str, Any]:
        """What its numbers depend on, besides the run and the clips."""
        return {**asdict(self.recipe), "clips": sorted(p.name for p in self.clips.iterdir())}

    def __call__(self, run: Path) -> Evaluation:
        """Score a run folder."""
        request = PropagationRequest(
            run=run,
            clips=self.clips,
            layout="davis",
            split="val",
            recipe=self.recipe,
            pictures=1,
            device="cpu",
        )
        return evaluate_propagation(request).result


def make_shapes(folder: Path, options: MovingShapesOptions) -> None:
    """Write folder/shapes and folder/shards, once."""
    if (folder / "shards" / "manifest.json").exists():
        return
    build_moving_shapes(folder / "shapes", options)
    seconds = options.num_frames / options.frames_per_second
    shards = BuildOptions(clip_seconds=seconds, size=(options.size, options.size), require=())
    build([folder / "shapes" / "train"], folder / "shards", shards)


def settings(folder: Path, names: Sequence[str], steps: int, batch_size: int) -> list[Setting]:
    """A setting for each of the named methods, on the shapes of a folder."""
    return [
        Setting(
            name=name,
            config=name,
            overrides=(
                f"data.shards={folder / 'shards'}",
                f"data.batch_size={batch_size}",
                f"trainer.max_steps={steps}",
                "trainer.epochs=1000",
                "trainer.accelerator=cpu",
                "optimizer.warmup_steps=10",
                *CORRESPONDENCE[name],
            ),
            data={},
            tasks=(),
            scorers=(Propagation(folder / "shapes", RECIPE),),
        )
        for name in names
    ]


def table(results: Mapping[str, Sequence[Trial | Failed]]) -> str:
    """A Markdown table: a row a method; matching by colour and still masks below."""
    lines = [
        "| method | J&F | untrained | J | F | steps | CPU s |",
        f"| --- |{' ---: |' * 6}",
    ]
    done: list[Trial] = []
    for name, trials in results.items():
        whole = [trial for trial in trials if isinstance(trial, Trial)]
        done += whole
        cells = [mean_and_spread(values_of(trials, JF, of)) for of in (TRAINED, UNTRAINED)]
        cells += [mean_and_spread(values_of(trials, column)) for column in (J, F)]
        seconds = [trial.cpu_seconds for trial in whole if trial.cpu_seconds is not None]
        steps = str(whole[0].steps) if whole else "-"
        cpu = f"{sum(seconds) / len(seconds):.0f}" if seconds else "-"
        lines.append(f"| {name} | {' | '.join(cells)} | {steps} | {cpu} |")
    for name in (COLOR, STILL):
        found = [values_of(done, column, name)[:1] for column in (JF, J, F)]  # of any run the same
        both, regions, contours = (mean_and_spread(values) for values in found)
        lines.append(f"| {name} | {both} | - | {regions} | {contours} | - | - |")
    failures = [t for trials in results.values() for t in trials if isinstance(t, Failed)]
    lines += [f"\n{f.name}, seed {f.seed}, failed: {f.reason}" for f in failures]
    return "\n".join(lines)


def main() -> None:
    """Run what is not on disk yet, print the table, draw it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.video_methods", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/video_methods"), help="trials")
    parser.add_argument("--methods", help="with commas between; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=56)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--into", type=Path, help="a Markdown file whose table to replace")
    parser.add_argument("--picture", type=Path, help="PNG of the table; in --out by default")
    asked = parser.parse_args()
    names = asked.methods.split(",") if asked.methods else list(CORRESPONDENCE)
    began = time.process_time()
    make_shapes(asked.out, MovingShapesOptions(num_train=64, num_val=5, num_frames=24))
    found = settings(asked.out, names, asked.steps, asked.batch_size)
    results = run_trials(found, range(asked.seeds), asked.out / "trials")
    text = table(results)
    print(text)
    print(f"{(time.process_time() - began) / 60:.0f} CPU minutes")
    picture = asked.picture or asked.out / "video_methods.png"
    draw(results, JF, picture, "Masks carried through held-out clips")
    if asked.into is not None:
        whole = asked.into.read_text(encoding="utf-8")
        before, after = whole.split(BEGIN)[0], whole.split(END, 1)[1]
        today = f"{datetime.now(tz=UTC):%Y-%m-%d}, torch {torch.__version__}, {asked.seeds} seeds."
        asked.into.write_text(f"{before}{BEGIN}\n\n{text}\n\n{today}\n\n{END}{after}")


if __name__ == "__main__":
    main()
