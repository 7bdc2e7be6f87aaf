"""`gdt bench stream`: where the time of a batch goes, and how many segments a second it gives.

The stages are measured on one decoding thread and nothing decoded ahead, so that they follow one
another and their wall-clock times add up; the rates are those of the stream as it is used.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from tools.commands.group import command, group

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipelines.loading.raw_batch import RawBatch
    from pipelines.loading.stream import StreamOptions
    from shards import Samples
    from tools.runs.config import Config

app = group("How fast it is here, and what takes the time.")

WARM_UP_BATCHES: Final = 2  # first calls allocate memory and initialise libraries

#: What to do about the stage that takes the most time.
ADVICE: Final = {
    "order and draws": "larger batches spread it over more samples",
    "index lookup": "many shards are opened for the first time; the share falls in a longer run",
    "read and checksum": "reading is slow: use a faster disk, or data.remote's cache",
    "video decode": "more data.threads while cores are free; else smaller frames, fewer frames "
    "(segment.num_frames) or a GPU's decoder (segment.decoder)",
    "audio decode, resample": "shards whose sample rate is segment.sample_rate_hz need no "
    "resampling (gdt shards build --sample-rate)",
    "collate": "smaller batches stay in the processor's cache",
    "RGB, crop, augment": "fast on a GPU; on a CPU, choose a smaller video_augment.size, "
    "fewer frames or no jitter",
    "log-mel": "fewer log_mel.num_mels, or a longer log_mel.hop_samples",
    "codes": "larger batches spread it over more rows",
    "the rest": "threads wait for each other: more samples a batch, or fewer threads",
}


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds a segment, stage by stage; "the rest" is what no stage claims."""

    cpu_ms: dict[str, float]
    wall_ms: dict[str, float]

    def bottleneck(self) -> str:
        """The stage that takes the most wall-clock time."""
        return max(self.wall_ms, key=lambda stage: self.wall_ms[stage])


@command(
    app,
    "stream",
    "gdt bench stream data/shards/train",
    "gdt bench stream data/shards/train --config gdt --threads 4 --threads 8",
)
def stream(
    shards: Annotated[
        str, typer.Argument(help="Folder or URL of shards, in place of the config's data sets.")
    ],
    config: Annotated[
        str | None,
        typer.Option(help="TOML file or name; by default GDT's plan and the usual options."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key.")
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Decoding threads to try; 1 and the config's by default."),
    ] = None,
    segments: Annotated[int, typer.Option(min=1, help="Segments of each measurement.")] = 300,
) -> None:
    """Print what each stage of the stream costs a segment, and segments a second."""
    from tools.runs.config_files import find_config, read_tables

    if config is not None:  # what can be refused without torch is refused before it is imported
        read_tables(find_config(config), overrides or ())

    from rich.progress import BarColumn, Progress, TextColumn

    from shards import open_samples
    from tools.terminal import Terminal

    settings = bench_config(shards, config, overrides or [])
    dataset = open_samples(shards, settings.data.remote)
    counts = sorted(set(threads or (1, settings.data.threads)))
    console = Terminal()
    columns = (TextColumn("{task.description}"), BarColumn())
    waiting = Terminal(stderr=True)
    with Progress(*columns, console=waiting, transient=True) as bar:
        ways = [(count, False) for count in counts]
        if _decodes_on_cpu(settings):
            ways.append((counts[-1], True))
        task = bar.add_task("stages", total=(1 + 2 * len(ways)) * segments)

        def progress(rows: int) -> None:
            bar.advance(task, rows)

        times = stage_times(settings, dataset, segments, progress)
        rates = []
        for count, isolate in ways:
            way = _way(count, isolate)
            bar.update(task, description=way)
            options = replace(settings.data, threads=count, isolate=isolate)
            decoded = rate(options, settings, dataset, segments, progress, transform=False)
            transformed = rate(options, settings, dataset, segments, progress)
            rates.append((way, decoded, transformed))
    for line in report(settings, dataset, times, rates):
        console.say(line)


def bench_config(shards: str, name: str | None, overrides: list[str]) -> "Config":
    """The config to measure: a file's, or defaults for what has none.

    Raises:
        ConfigError: as `load_config` does.
    """
    from tools.runs.config import config_of, load_config
    from tools.runs.config_files import find_config

    here = (f"data.shards={shards}", "data.mix={}")
    if name is not None:
        return load_config(find_config(name), [*here, *overrides])
    tables: dict[str, Any] = {
        "plan": {"name": "v_reversal_v_shift"},
        "method": {"name": "gdt"},
        "optimizer": {"learning_rate": 0.01},
        "trainer": {"epochs": 1},
    }
    return config_of(tables, Path("defaults"), [*here, *overrides])


def stage_times(
    config: "Config", dataset: "Samples", segments: int, progress: "Callable[[int], None]"
) -> StageTimes:
    """What each stage takes, on one thread, with nothing decoded ahead."""
    import torch

    from tools.commands.stage_clock import StageClock

    clock = StageClock()
    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its own threads would not be on any stage's clock
    try:
        with clock:
            rows, wall, cpu = _consume(
                replace(config.data, threads=1, prefetch=0, isolate=False),
                config,
                dataset,
                segments,
                progress,
                begin=clock.reset,
            )
    finally:
        torch.set_num_threads(torch_threads)
    cpu_ms = {stage: seconds / rows * 1e3 for stage, seconds in clock.cpu_seconds.items()}
    wall_ms = {stage: seconds / rows * 1e3 for stage, seconds in clock.wall_seconds.items()}
    cpu_ms["the rest"] = max(0.0, cpu / rows * 1e3 - sum(cpu_ms.values()))
    wall_ms["the rest"] = max(0.0, wall / rows * 1e3 - sum(wall_ms.values()))
    return StageTimes(cpu_ms, wall_ms)


def _decodes_on_cpu(config: "Config") -> bool:
    """Whether worker processes can decode what threads do."""
    if config.segment.decoder == "auto":
        return _device(config) == "cpu"
    return config.segment.decoder not in ("nvdec", "hybrid", "dali")


def _way(count: int, isolate: bool) -> str:
    from shards.plural import plural

    if isolate:
        return f"{count} process{'es' * (count > 1)} (data.isolate)"
    return plural(count, "thread")


def rate(
    options: "StreamOptions",
    config: "Config",
    dataset: "Samples",
    segments: int,
    progress: "Callable[[int], None]",
    *,
    transform: bool = True,
) -> float:
    """Segments a second, by the clock on the wall, decoded ahead as in training."""
    rows, wall, _ = _consume(options, config, dataset, segments, progress, transform=transform)
    return rows / wall


def _consume(
    options: "StreamOptions",
    config: "Config",
    dataset: "Samples",
    segments: int,
    progress: "Callable[[int], None]",
    *,
    transform: bool = True,
    begin: "Callable[[], None]" = lambda: None,
) -> tuple[int, float, float]:
    """(segments, wall-clock seconds, CPU seconds) of a stream, from when `begin` is called on."""
    import torch

    from pipelines.loading.stream import Stream
    from tools.runs.config import as_config_errors
    from tools.runs.run import build_device_transform

    device = _device(config)
    to_batch = build_device_transform(config, training=True)
    with as_config_errors():
        source = Stream(dataset, config.build_plan(), config.segment, options, config.seed)
    rows, wall, cpu = 0, 0.0, 0.0
    try:
        for number, raw in enumerate(_endless(source), start=1 - WARM_UP_BATCHES):
            if transform:
                to_batch(raw.to(device))
                if device == "cuda":
                    torch.cuda.synchronize()
            if number > 0:
                rows += len(raw)
                progress(len(raw))
            if number == 0:
                begin()
                wall, cpu = time.perf_counter(), time.process_time()
            if rows >= segments:
                return rows, time.perf_counter() - wall, time.process_time() - cpu
    finally:
        source.close()
    raise AssertionError("a stream does not end")


def _endless(source: Any) -> "Iterator[RawBatch]":
    while True:
        yield from source


def _device(config: "Config") -> str:
    import torch

    return "cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu"


def report(
    config: "Config",
    dataset: "Samples",
    times: StageTimes,
    rates: list[tuple[str, float, float]],
) -> list[Any]:
    """Two tables, and in one line what takes the most and what to do about it.

    Args:
        config: that was measured.
        dataset: that was read.
        times: of the stages.
        rates: (way, segments a second decoded, and transformed) of each way that was tried.
    """
    from rich.table import Table

    segment = config.segment
    title = f"{dataset.path}: {segment.num_frames} frames of {segment.seconds:g} s a segment"
    stages = Table(title=title, box=None, pad_edge=False, title_justify="left")
    stages.add_column("stage, on one thread")
    for heading in ("CPU ms a segment", "wall ms a segment", "share"):
        stages.add_column(heading, justify="right")
    total = sum(times.wall_ms.values())
    for stage, wall in times.wall_ms.items():
        stages.add_row(
            stage, f"{times.cpu_ms[stage]:.3f}", f"{wall:.3f}", f"{100 * wall / total:.1f} %"
        )
    stages.add_row("together", f"{sum(times.cpu_ms.values()):.3f}", f"{total:.3f}", "")
    speeds = Table(box=None, pad_edge=False)
    speeds.add_column("decoding by")
    for heading in ("segments/s, decoded", f"and transformed ({_device(config)})"):
        speeds.add_column(heading, justify="right")
    for way, decoded, transformed in rates:
        speeds.add_row(way, f"{decoded:.0f}", f"{transformed:.0f}")
    slowest = times.bottleneck()
    share = 100 * times.wall_ms[slowest] / total
    line = f"Bottleneck: {slowest}, {share:.0f} % of a segment's time: {ADVICE[slowest]}."
    return [stages, "", speeds, "", line]
