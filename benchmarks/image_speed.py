"""Training steps and input of image methods beside lightly's: `python -m benchmarks.image_speed`.

Steps: the same encoder, the same pictures in memory, the same optimizer; ours and lightly's take
turns, and the median of nine turns' CPU time counts. SimCLR, SwAV and DINO put all views through
the encoder as one batch, as their authors do, whose batch norm so sees them together; lightly puts
them through one by one. "joined" is our time beside lightly's where its encoder does the same, and
"channels last" with `trainer.channels_last = true`, which computes the same and moves less memory.

Input: a folder of JPEGs to batches of two views under SimCLR's recipe, with two workers: our stream
and device transform beside LightlyDataset and SimCLRTransform in torch's DataLoader. CPU time
counts there, too, all processes together: the wall time of a machine that does other things says
little.

    python -m benchmarks.image_speed --batch 64 --size 32
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.image_methods import settings
from benchmarks.lightly_methods import LIGHTLY, views_of
from benchmarks.stream import cpu_seconds
from gdt import Batch, Plan, View, named_plan
from models import Encoder, RunFacts, build_method
from models import Setting as MethodSetting
from models.method import ParameterGroup
from pipelines.decoding.segment import SegmentOptions
from pipelines.device.options import ImageAugment
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.stream import Stream, StreamOptions
from shards import open_samples
from tools.runs.config import Config
from tools.training.optimizer import build_optimizer

TURNS: Final = 9
#: Methods whose views go through the encoder as one batch.
JOINED: Final = ("simclr", "swav", "dino")
#: A column's title → how our step or lightly's is other than it would be.
WAYS: Final[dict[str, dict[str, bool]]] = {
    "joined": {"joined": True},
    "channels last": {"channels_last": True},
}
#: SimCLR's recipe for ImageNet (appendix A), as lightly's SimCLRTransform has it by default.
RECIPE: Final = ImageAugment(
    size=224,
    crop="random_resized",
    scales=(0.08, 1.0),
    flip_probability=0.5,
    jitter_probability=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    gray_probability=0.2,
    blur_probability=0.5,
    blur_sigmas=(0.1, 2.0),
)
PICTURE: Final = (500, 375)  # width and height: ImageNet's commonest


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image_speed", description=__doc__)
    parser.add_argument("--methods", default=",".join(LIGHTLY), help="with commas between")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--size", type=int, default=32, help="pixels of a side, of the steps")
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    parser.add_argument("--pictures", type=int, default=256, help="in the folder; 0: steps only")
    asked = parser.parse_args()
    if asked.methods:
        for line in step_lines(asked.methods.split(","), asked.batch, asked.size, asked.steps):
            print(line, flush=True)
    if asked.pictures:
        print()
        with tempfile.TemporaryDirectory() as folder:
            write_pictures(Path(folder) / "pictures", asked.pictures)
            for line in input_lines(Path(folder) / "pictures", min(32, asked.pictures)):
                print(line, flush=True)


def step_lines(names: list[str], batch_size: int, size: int, steps: int) -> Iterator[str]:
    """A Markdown table: CPU time of a training step, ours and lightly's."""
    titles = ["ours", "lightly", "ours / lightly", *WAYS]
    yield f"| a step of {batch_size}, {size}², CPU ms | {' | '.join(titles)} |"
    yield f"| --- |{' ---: |' * len(titles)}"
    with tempfile.TemporaryDirectory() as folder:
        found, _ = settings(Path(folder), names, 1000, 1000, lightly=False)
        for setting in found:
            config = setting.resolved(0)
            both = paired(*training_steps(config, batch_size, size), steps)
            cells = [f"{1000 * statistics.median(side):.0f}" for side in both] + [_ratio(both)]
            for way in WAYS.values():
                if "joined" in way and setting.name not in JOINED:
                    cells.append("-")
                    continue
                pair = training_steps(config, batch_size, size, **way)
                cells.append(_ratio(paired(*pair, steps)))
            yield f"| {setting.name} | {' | '.join(cells)} |"


def _ratio(both: tuple[list[float], list[float]]) -> str:
    """Of our time to lightly's, the median over turns."""
    return f"{statistics.median(o / t for o, t in zip(*both, strict=True)):.2f}"


def training_steps(
    config: Config,
    batch_size: int,
    size: int,
    *,
    joined: bool = False,
    channels_last: bool = False,
) -> tuple[Callable[[], None], Callable[[], None]]:
    """Our step of a config's method and lightly's, from the same weights of the encoder.

    With `joined` lightly's encoder sees all views as one batch, as ours does; with `channels_last`
    our pictures and weights lie in memory as that option of a config has them.
    """
    plan = config.build_plan()
    facts = RunFacts(1500, batch_size, 1500 // batch_size, 1000)
    torch.manual_seed(0)
    setting = MethodSetting(plan, config.encoders, facts)
    ours, for_theirs = (build_method(config.method, setting).train() for _ in range(2))
    for_theirs.towers.load_state_dict(ours.towers.state_dict())
    theirs = LIGHTLY[config.method.name](for_theirs.towers.encoder("image"), config.method, 1000)
    theirs.joined = joined
    batch = for_ours = random_batch(plan, batch_size, size)
    if channels_last:
        (view,) = batch.views
        values = view.values.contiguous(memory_format=torch.channels_last)
        for_ours = replace(batch, views=(replace(view, values=values),))
        for encoder in (m for m in ours.modules() if isinstance(m, Encoder)):
            encoder.arrange(channels_last=True)
    column, count = plan.names.index("augmentation"), plan.draws("augmentation")

    def optimizer_of(groups: list[ParameterGroup]) -> Any:
        schedule = {"num_ranks": 1, "steps_per_epoch": facts.steps_per_epoch, "num_steps": 1000}
        return build_optimizer(config.optimizer, groups, **schedule)[0]

    our_optimizer = optimizer_of(ours.parameter_groups())
    their_optimizer = optimizer_of([ParameterGroup(list(theirs.parameters()))])

    def our_step() -> None:
        our_optimizer.zero_grad()
        ours(for_ours).total.backward()
        ours.after_backward(500)
        our_optimizer.step()
        ours.after_step(500)

    def their_step() -> None:
        theirs.before_step(500)
        their_optimizer.zero_grad()
        theirs(views_of(batch, column, count)).backward()
        theirs.after_backward(20)
        their_optimizer.step()

    return our_step, their_step


def random_batch(plan: Plan, batch_size: int, size: int) -> Batch:
    """Pictures of noise for every transformation of so many samples."""
    codes = plan.codes(torch.arange(batch_size))
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(len(codes), 3, size, size, generator=generator)
    return Batch((View("image", values, codes),), epoch=20, step=0)


def paired(
    ours: Callable[[], None], theirs: Callable[[], None], steps: int
) -> tuple[list[float], list[float]]:
    """CPU seconds of a step, in turns; both are warmed up first."""
    ours()
    theirs()
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(TURNS):
        for side in (0, 1) if turn % 2 else (1, 0):
            began = time.process_time()
            for _ in range(steps):
                (ours, theirs)[side]()
            seconds[side].append((time.process_time() - began) / steps)
    return seconds


def write_pictures(folder: Path, count: int) -> None:
    """JPEGs of two classes, cut from the photographs that come with scikit-learn."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng, (width, height) = np.random.default_rng(0), PICTURE
    for number in range(count):
        photograph = photographs[number % 2]
        top = int(rng.integers(photograph.shape[0] - height))
        left = int(rng.integers(photograph.shape[1] - width))
        at = folder / ("china", "flower")[number % 2]
        at.mkdir(parents=True, exist_ok=True)
        cut = photograph[top : top + height, left : left + width]
        Image.fromarray(cut).save(at / f"{number}.jpg", quality=90)


def input_lines(folder: Path, batch_size: int) -> Iterator[str]:
    """A Markdown table: CPU milliseconds a picture, stage by stage and end to end."""
    ours, theirs = our_stages(folder, batch_size), their_stages(folder, batch_size)
    yield "| CPU ms a picture of two views | ours | lightly | lightly / ours |"
    yield "| --- | ---: | ---: | ---: |"
    for stage in ours:
        ratio = theirs[stage] / ours[stage] if ours[stage] > 0.005 else float("nan")
        yield f"| {stage} | {ours[stage]:.2f} | {theirs[stage]:.2f} | {ratio:.1f} |"


READ: Final = "read and decode"
AUGMENT: Final = "two views: crop, flip, jitter, gray, blur, normalise"
REST: Final = "the rest: batches, workers, waiting"
WHOLE: Final = "end to end, two workers"


def our_stages(folder: Path, batch_size: int) -> dict[str, float]:
    """Of the stream on two threads and the device transform on the CPU."""
    dataset, plan = open_samples(str(folder)), named_plan("simclr")
    transform = DeviceTransform(plan, DeviceOptions(image_augment=RECIPE), 0, training=True)
    segment = SegmentOptions(num_frames=1)
    num_batches = max(1, len(dataset) // batch_size)

    def batches() -> Generator[Any, None, None]:
        stream = Stream(dataset, plan, segment, StreamOptions(batch_size, 2), 0)
        try:
            while True:
                yield from stream
        finally:
            stream.close()

    def read() -> Generator[int, None, None]:
        for raw in batches():
            yield len(raw)

    def whole() -> Generator[int, None, None]:
        for raw in batches():
            yield len(transform(raw).view("image")) // 2

    raws = batches()
    raw = next(raws)
    raws.close()
    augment = _milliseconds(lambda: transform(raw), len(raw))
    costs = {READ: _run(read(), num_batches), AUGMENT: augment}
    return _with_rest(costs, _run(whole(), num_batches))


def their_stages(folder: Path, batch_size: int) -> dict[str, float]:
    """Of lightly's data set and transform in two worker processes of torch's DataLoader."""
    from lightly.data import LightlyDataset
    from lightly.transforms.simclr_transform import SimCLRTransform

    transform = SimCLRTransform(input_size=RECIPE.size)
    paths = sorted(folder.rglob("*.jpg"))
    pictures = [Image.open(path).convert("RGB") for path in paths[:batch_size]]
    dataset = LightlyDataset(str(folder), transform=transform)

    def whole() -> Generator[int, None, None]:
        endless = RandomSampler(dataset, replacement=True, num_samples=1 << 30)
        for views, _, _ in DataLoader(dataset, batch_size, sampler=endless, num_workers=2):
            yield len(views[0])

    costs = {
        READ: _milliseconds(
            lambda: [Image.open(path).convert("RGB") for path in paths[:batch_size]],
            len(pictures),
        ),
        AUGMENT: _milliseconds(lambda: [transform(picture) for picture in pictures], len(pictures)),
    }
    return _with_rest(costs, _run(whole(), max(1, len(paths) // batch_size)))


def _with_rest(costs: dict[str, float], whole: float) -> dict[str, float]:
    return {**costs, REST: max(0.0, whole - sum(costs.values())), WHOLE: whole}


def _milliseconds(work: Callable[[], object], count: int) -> float:
    """CPU ms of one of `count` items: the median of some turns."""
    work()
    seconds = []
    for _ in range(TURNS):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return 1000 * statistics.median(seconds) / count


def _run(counts: Generator[int, None, None], num_batches: int) -> float:
    """CPU ms a picture of all processes, from the third batch on.

    As much is ready ahead of time at the end as at the beginning.
    """
    for _ in range(2):
        next(counts)
    began = cpu_seconds()
    done = sum(next(counts) for _ in range(num_batches))
    spent = cpu_seconds() - began
    counts.close()
    return 1000 * spent / done


if __name__ == "__main__":
    main()
