"""What follows objects: methods of correspondence on moving shapes, and how that is scored.

Moving shapes (`gdt samples shapes`): textured shapes that turn and pass each other in changing
light. Every method takes its own config, on the same clips, in as many steps of as many clips; none
is tuned. Then the masks of first frames of held-out clips are carried on, and scored as DAVIS-2017
does. Beside them stand matching by colour, and first masks that stay where they are.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.groups import Group
from benchmarks.trials import Column, Setting
from shards import BuildOptions
from shards.building.build import build
from tools.evaluation.result import Evaluation
from tools.propagation.evaluate import COLOR, STILL, PropagationRequest, evaluate_propagation
from tools.propagation.recipe import RECIPES, Recipe
from tools.sample_data.moving_shapes import MovingShapesOptions, build_moving_shapes

COLUMNS: Final = (
    Column("J&F", "propagate", "objects", "J&F"),
    Column("J", "propagate", "objects", "J mean"),
    Column("F", "propagate", "objects", "F mean"),
)
#: Methods that follow objects, by their configs' names, and what differs from those here.
METHODS: Final[dict[str, tuple[str, ...]]] = {
    "crw": (),
    "colorization": (),
    "mast": (),
    "udt": (),
    "timecycle": (),
    "uvc": ("method.warm_up_epochs=3",),
    "tracked_patches": ("method.random_epochs=2",),
}
RECIPE: Final = RECIPES["videowalk"].changed(num_previous=5, radius=6)
SHAPES: Final = MovingShapesOptions(num_train=64, num_val=5, num_frames=24)


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


def correspondence(folder: Path, shapes: MovingShapesOptions = SHAPES, steps: int = 48) -> Group:
    """The methods on the shapes of a folder, which are made if they are not there."""
    make_shapes(folder, shapes)
    settings = [
        Setting(
            name=name,
            config=name,
            overrides=(
                f"data.shards={folder / 'shards'}",
                "data.batch_size=8",
                f"trainer.max_steps={steps}",
                "trainer.epochs=1000",
                "trainer.accelerator=cpu",
                "optimizer.warmup_steps=10",
                *changes,
            ),
            data={},
            tasks=(),
            scorers=(Propagation(folder / "shapes", RECIPE),),
        )
        for name, changes in METHODS.items()
    ]
    return Group(
        "correspondence",
        "Masks of a first frame carried through held-out clips of moving shapes, %:",
        COLUMNS,
        (COLOR, STILL),
        tuple(settings),
    )
