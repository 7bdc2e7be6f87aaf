"""Segments a second and CPU time a segment, beside peers, in one run: docs/speed.md.

    python -m benchmarks.stream FILM            shards and originals are made of the film's clips
    python -m benchmarks.stream FILM --folder F keeps them in F, and uses them if they are there
    python -m benchmarks.stream FILM --codecs mpeg4   shards of one codec

Every way loads random seconds of the same clips and takes turns with the others, round by round;
the numbers are medians over the rounds. CPU time is that of the process and all its workers, from
the ninth batch on. Right means: PSNR to the frames that are on screen by time, and how far the
sound is off, over ten segments that are the same for all.
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from benchmarks.stream_ways import (
    CLIP_SECONDS,
    NUM_FRAMES,
    RATE,
    SIZE,
    Way,
    middle,
    ways,
)
from shards import BuildOptions, Dataset
from shards.building.build import build
from shards.options import CODECS
from tools.commands.bench import bench_config, stage_times

PAGE: Final = Path(__file__).parents[1] / "docs" / "speed.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
WARM_UP_BATCHES: Final = 8  # till then memory is new, ours and that of the loaders
LEAST_BATCHES: Final = 6  # of a measurement: what is under way at its ends is not counted
NUM_ORIGINALS: Final = 12


@dataclass(frozen=True)
class Figures:
    """One way's, with a number of workers: medians over the rounds."""

    cpu_ms: float
    rate: float


def main() -> None:
    """Make the clips, measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--folder", type=Path, help="where shards and originals are kept")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--codecs", nargs="+", default=["h264", "mpeg4"], choices=CODECS)
    parser.add_argument("--no-page", action="store_true", help="print only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sys.setswitchinterval(5e-4)  # as the gdt command does
    lines = [f"Measured {datetime.date.today().isoformat()}: {_machine()}."]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        originals = make_originals(options.film, folder / "originals")
        for codec in options.codecs:
            dataset = make_shards(options.film, folder / f"shards-{codec}", codec)
            found, missing = ways(dataset, originals)
            figures = measure(found, options.workers, options.rounds, options.seconds)
            right = [correctness(way, dataset, originals) for way in found]
            lines += ["", f"### Shards of `--codec {codec}`", ""]
            lines += [*table(found, figures, right, options.workers), ""]
            lines += [f"Not measured: {reason}" for reason in missing]
            lines += [*goals(found, figures), "", *stages(dataset)]
    print("\n".join(lines))
    if not options.no_page:
        text = PAGE.read_text(encoding="utf-8")
        head, rest = text.split(BEGIN)
        page = f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}"
        PAGE.write_text(page, encoding="utf-8")


def make_shards(film: Path, folder: Path, codec: str) -> Dataset:
    """Clips of the film as shards of 16 clips."""
    if not (folder / "manifest.json").exists():
        options = BuildOptions(
            clip_seconds=CLIP_SECONDS, size=SIZE, codec=codec, clips_per_shard=16
        )
        build([film], folder, options, num_workers=os.cpu_count() or 1)
    return Dataset.open(folder)


def make_originals(film: Path, folder: Path) -> list[Path]:
    """Clips of the film as they come from the web: 640×360, H.264 as x264 makes it, AAC."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02d}.mp4" for number in range(NUM_ORIGINALS)]
    for number, path in enumerate(paths):
        if not path.exists():
            part = path.with_suffix(".part")
            _cut(film, part, 30.0 + 40.0 * number)
            part.rename(path)
    return paths


def _cut(film: Path, out: Path, start: float) -> None:
    with av.open(str(film)) as source, av.open(str(out), "w", format="mp4") as target:
        streams: list[Any] = [source.streams.video[0], source.streams.audio[0]]
        encoders: list[Any] = [
            target.add_stream("libx264", rate=streams[0].average_rate),
            target.add_stream("aac", rate=streams[1].rate),
        ]
        encoders[0].width, encoders[0].height, encoders[0].pix_fmt = 640, 360, "yuv420p"
        for stream, encoder in zip(streams, encoders, strict=True):
            source.seek(round(start / stream.time_base), stream=stream)
            first: int | None = None
            for frame in source.decode(stream):
                seconds = float(frame.pts * frame.time_base)
                if seconds < start:
                    continue
                if seconds >= start + CLIP_SECONDS:
                    break
                first = frame.pts if first is None else first
                pts, tick = frame.pts - first, frame.time_base
                if stream.type == "video":
                    frame = frame.reformat(640, 360, "yuv420p")
                    frame.pict_type = 0
                frame.pts, frame.time_base = pts, tick
                target.mux(encoder.encode(frame))
            target.mux(encoder.encode(None))


def measure(
    found: Sequence[Way], workers: Sequence[int], rounds: int, seconds: float
) -> list[dict[int, Figures]]:
    """Figures of every way by number of workers; the ways take turns."""
    taken: list[dict[int, list[tuple[float, float]]]] = [{n: [] for n in workers} for _ in found]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=rounds * len(found) * len(workers))
        for _ in range(rounds):
            for times, way in zip(taken, found, strict=True):
                for count in workers:
                    with way.batches(count) as batches:
                        times[count].append(_window(batches, seconds))
                    bar.advance(task)
    return [
        {n: Figures(*map(statistics.median, zip(*pairs, strict=True))) for n, pairs in way.items()}
        for way in taken
    ]


def _window(batches: Iterator[int], seconds: float) -> tuple[float, float]:
    """(CPU ms a segment, segments a second), after the first batches."""
    for _ in range(WARM_UP_BATCHES):
        next(batches)
    cpu, begin, segments, taken = cpu_seconds(), time.perf_counter(), 0, 0
    while time.perf_counter() - begin < seconds or taken < LEAST_BATCHES:
        segments += next(batches)
        taken += 1
    wall = time.perf_counter() - begin
    return (cpu_seconds() - cpu) / segments * 1e3, segments / wall


def cpu_seconds() -> float:
    """Of this process and its descendants, those that have ended included (as Linux counts)."""
    tick = os.sysconf("SC_CLK_TCK")
    parents, times = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            times[int(folder.name)] = sum(map(int, fields[11:15])) / tick
    mine, total = {os.getpid()}, 0.0
    while mine:
        total += sum(times[process] for process in mine)
        mine = {process for process, parent in parents.items() if parent in mine}
    return total


def correctness(way: Way, dataset: Dataset, originals: Sequence[Path]) -> tuple[float, float]:
    """(PSNR in dB to the right frames, greatest error of the sound in ms) over ten segments."""
    rng = np.random.default_rng(1)
    errors, offsets = [], []
    for _ in range(10):
        index = int(rng.integers(len(originals) if way.originals else len(dataset)))
        start = float(rng.random() * (CLIP_SECONDS - 1.1))
        frames, sound = way.one(index, start)
        right_frames, right_sound = _right(dataset, originals, way, index, start, frames.ndim == 4)
        difference = frames.astype(np.float64) - right_frames[: len(frames)]
        errors.append(np.mean(difference**2))
        offsets.append(_offset_ms(sound, right_sound))
    return 10 * np.log10(255**2 / max(np.mean(errors), 1e-9)), max(offsets)


def _right(
    dataset: Dataset, originals: Sequence[Path], way: Way, index: int, start: float, rgb: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The frames on screen at the middles of their intervals, and the whole sound around."""
    import io

    if way.originals:
        picture: Any = str(originals[index])
        sound: Any = picture
    else:
        sample = dataset.sample(index)
        picture = io.BytesIO(dataset.read_member(sample, "mp4"))
        sound = io.BytesIO(dataset.read_member(sample, "flac"))
    with av.open(picture) as container:
        decoded: list[Any] = list(container.decode(video=0))
    times = np.array([float(frame.pts * frame.time_base) for frame in decoded])
    middles = start + (np.arange(NUM_FRAMES) + 0.5) / NUM_FRAMES
    shown = [decoded[i] for i in np.searchsorted(times, middles + 1e-9, "right") - 1]
    if rgb:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in shown])
        planes = torch.from_numpy(frames).permute(0, 3, 1, 2)
        frames = middle(planes).permute(0, 2, 3, 1).numpy()
    else:
        frames = np.stack([frame.to_ndarray().reshape(-1) for frame in shown])
    resampler = av.AudioResampler("flt", "mono", RATE)
    with av.open(sound) as container:
        parts = [
            part.to_ndarray()[0]
            for frame in [*container.decode(audio=0), None]
            for part in resampler.resample(frame)
        ]
    whole = np.concatenate(parts)
    margin = RATE // 10
    padded = np.pad(whole, (margin, RATE))
    first = round(start * RATE)
    return frames, padded[first : first + RATE + 2 * margin].astype(np.float32)


def _offset_ms(sound: NDArray[np.float32], around: NDArray[np.float32]) -> float:
    """How far the sound is from where it should be, by cross-correlation within 100 ms."""
    if not sound.any():
        return 0.0
    size = len(around) + len(sound)
    spectrum = np.fft.rfft(around, size) * np.conj(np.fft.rfft(sound, size))
    correlation = np.fft.irfft(spectrum, size)[: len(around) - RATE]
    return abs(int(np.argmax(correlation)) - RATE // 10) / RATE * 1e3


def table(
    found: Sequence[Way],
    figures: Sequence[dict[int, Figures]],
    right: Sequence[tuple[float, float]],
    workers: Sequence[int],
) -> list[str]:
    """The figures as Markdown."""
    least = workers[0]
    rates = "".join(f" segments/s, {n} worker{'s' * (n > 1)} |" for n in workers)
    lines = [
        f"| {SIZE[0]}×{SIZE[1]}, {NUM_FRAMES} frames and 1 s of sound | CPU ms a segment | × ours |"
        f"{rates} PSNR | sound off by |",
        "| --- |" + " ---: |" * (4 + len(workers)),
    ]
    for way, by_workers, (psnr, offset) in zip(found, figures, right, strict=True):
        cpu = by_workers[least].cpu_ms
        numbers = "".join(f" {by_workers[n].rate:.0f} |" for n in workers)
        exact = "equal" if psnr > 100 else f"{psnr:.1f} dB"
        times = cpu / figures[0][least].cpu_ms
        lines.append(
            f"| {way.name} | {cpu:.2f} | {times:.1f} |{numbers} {exact} | {offset:.2f} ms |"
        )
    return lines


#: A word of a peer's name → how many times quicker than it we want to be.
GOALS: Final = {"torchcodec": 3, "webdataset": 5, "reference": 80}


def goals(found: Sequence[Way], figures: Sequence[dict[int, Figures]]) -> list[str]:
    """How many times quicker ours is (by threads or processes), beside the goals."""
    ours = [rates for way, rates in zip(found, figures, strict=True) if way.name.startswith("ours")]
    best = {n: max(rates[n].rate for rates in ours) for n in figures[0]}
    lines = []
    for way, by_workers in zip(found, figures, strict=True):
        for word, goal in GOALS.items():
            if word in way.name:
                ratios = " and ".join(
                    f"{best[n] / f.rate:.1f} × with {n}" for n, f in by_workers.items()
                )
                lines.append(f"- ours beside {way.name}: {ratios} (goal: {goal} ×)")
    return lines


def stages(dataset: Dataset) -> list[str]:
    """What each stage costs, with RGB, augmentation and log-mel on the CPU."""
    config = bench_config(str(dataset.path), None, ["trainer.accelerator=cpu"])
    times = stage_times(config, dataset, 200, lambda rows: None)
    total = sum(times.cpu_ms.values())
    lines = ["| stage, all on one CPU thread | CPU ms a segment | share |", "| --- | ---: | ---: |"]
    lines += [f"| {stage} | {cpu:.3f} | {cpu / total:.1%} |" for stage, cpu in times.cpu_ms.items()]
    return [*lines, f"| together | {total:.3f} | |"]


def _machine() -> str:
    return (
        f"{os.cpu_count()} CPU cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}, Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}, PyAV {av.__version__}"
    )


if __name__ == "__main__":
    main()
