"""What a build costs beside ffmpeg, and what comes out: `python -m benchmarks.shards FILM`.

A stretch of a film is cut into a few files, without re-encoding. All ways make the same clips of
them, in turns, round by round, so that a busy machine is busy for all:

- ours: `gdt shards build`, its process and its workers; again with two workers, for the wall time;
- one `ffmpeg` a file: the same filters, the same settings of the encoder, FLAC; the segment muxer
  cuts the clips. It writes no index, no checksums and no report;
- three a file, one after the other (resize, then rate, then sound), each of which decodes what the
  one before encoded, as video2dataset's subsamplers do.

CPU time is user and system time of all processes. Starting Python and importing (compiled modules,
as pip installs them) is measured apart, as a build of one clip of half a second: a build of many
hours pays it once, and once a worker.
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
from rich.console import Console
from rich.table import Table

from benchmarks.coded_quality import quality_table
from shards import BuildOptions, Dataset
from shards.encoding.video_codecs import encoder_of
from shards.media.container import open_container
from shards.media.frame_fitting import FrameFitter
from shards.media.streams import video_stream

NUM_FILES = 4
CLIP_SECONDS = 5.0
_CLIPS = ["-f", "segment", "-segment_time", str(CLIP_SECONDS), "-reset_timestamps", "1"]


@dataclass(frozen=True)
class Way:
    """One way to make the clips; `run` is given a new folder."""

    name: str
    run: Callable[[Path], None]


@dataclass(frozen=True)
class Cost:
    """Seconds."""

    cpu: float
    wall: float


def cut_film(film: Path, folder: Path, seconds: float) -> list[Path]:
    """The first `seconds` of a film as `NUM_FILES` files, packets copied, each from a keyframe on.

    Raises:
        SystemExit: the film is too short.
    """
    paths = []
    with film.open("rb") as file, open_container(file) as source:
        video = video_stream(source)
        streams = [video, *source.streams.audio[:1]]
        packets = [p for p in source.demux(streams) if p.pts is not None]
        keyframes = [
            float(p.pts * p.time_base)
            for p in packets
            if p.stream.index == video.index and p.is_keyframe
        ]
        for number in range(NUM_FILES):
            wanted = number * seconds / NUM_FILES
            start = min((t for t in keyframes if t >= wanted), default=None)
            if start is None or start + seconds / NUM_FILES > keyframes[-1]:
                raise SystemExit(f"{film} is too short for {seconds:g} s: use a smaller --seconds")
            stop = start + seconds / NUM_FILES + 2  # a little more than is asked for
            path = folder / f"film-{number}.mp4"
            _copy(packets, streams, start, stop, path)
            paths.append(path)
    return paths


def _copy(
    packets: Sequence[Any], streams: Sequence[Any], start: float, stop: float, to: Path
) -> None:
    with av.open(str(to), "w", options={"use_editlist": "0"}) as out:
        copies = {stream.index: out.add_stream_from_template(stream) for stream in streams}
        for packet in packets:
            if not start <= float(packet.pts * packet.time_base) < stop:
                continue
            copy = av.Packet(bytes(packet))
            shift = round(start / packet.time_base)
            copy.time_base, copy.pts = packet.time_base, packet.pts - shift
            copy.dts, copy.duration = packet.dts - shift, packet.duration
            copy.is_keyframe = packet.is_keyframe
            copy.stream = copies[packet.stream.index]
            out.mux(copy)


def ours(paths: Sequence[Path], seconds: float, workers: int) -> Way:
    """`gdt shards build`, as a command."""
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(paths[0].parent / "compiled")

    def run(folder: Path) -> None:
        listed = folder / "list.csv"
        rows = [f"{path},0,{seconds}" for path in paths]
        listed.write_text("\n".join(["path,start,stop", *rows]))
        command = [sys.executable, "-c", "from tools.cli import app; app()", "shards", "build"]
        out, clip = folder / "out", min(seconds, CLIP_SECONDS)
        command += [str(listed), "--out", str(out), "--workers", str(workers)]
        _call([*command, "--clip-seconds", str(clip)], compiled)
        if len(Dataset.open(out)) != len(paths) * round(seconds / clip):
            raise SystemExit(f"the build made {len(Dataset.open(out))} clips of {seconds:g} s each")

    return Way(f"gdt shards build, {workers} worker{'s' if workers > 1 else ''}", run)


def one_ffmpeg(paths: Sequence[Path], seconds: float, options: BuildOptions) -> Way:
    """One ffmpeg process a file."""

    def run(folder: Path) -> None:
        for path in paths:
            video = ["-map", "0:v", "-vf", f"{_filters(path, options)},fps={options.frame_rate}"]
            video += [*_encoder(options), *_CLIPS, "-segment_format_options", "movflags=+faststart"]
            audio = ["-map", "0:a", *_flac(options), *_CLIPS]
            stem = str(folder / path.stem)
            to_video, to_audio = [*video, f"{stem}-%03d.mp4"], [*audio, f"{stem}-%03d.flac"]
            _ffmpeg([*_input(path, seconds), *to_video, *to_audio])

    return Way("one ffmpeg a file", run)


def three_ffmpeg(paths: Sequence[Path], seconds: float, options: BuildOptions) -> Way:
    """Three ffmpeg processes a file, each re-encoding what the one before made."""

    def run(folder: Path) -> None:
        for path in paths:
            stem = str(folder / path.stem)
            small, steady = Path(f"{stem}-small.mp4"), Path(f"{stem}-steady.mp4")
            encoder, filters = _encoder(options), _filters(path, options)
            _ffmpeg([*_input(path, seconds), "-vf", filters, *encoder, str(small)])
            rate = ["-vf", f"fps={options.frame_rate}"]
            _ffmpeg([*_input(small, seconds), *rate, *encoder, str(steady)])
            video = ["-map", "0:v", *encoder, *_CLIPS, f"{stem}-%03d.mp4"]
            audio = ["-map", "0:a", *_flac(options), *_CLIPS, f"{stem}-%03d.flac"]
            _ffmpeg([*_input(steady, seconds), *video, *audio])

    return Way("three ffmpeg a file, chained", run)


def _filters(path: Path, options: BuildOptions) -> str:
    """The build's own filter chain for this file."""
    with path.open("rb") as file, open_container(file) as container:
        fitter = FrameFitter(options, None)
        fitter.fit(next(container.decode(video=0)))
    return fitter.filters


def _input(path: Path, seconds: float) -> list[str]:
    one_thread = ["-threads", "1", "-filter_threads", "1"]
    return [*one_thread, "-t", str(seconds), "-i", str(path), *one_thread]


def _encoder(options: BuildOptions) -> list[str]:
    encoder = encoder_of(options)
    settings = encoder.settings(options).items()
    return ["-c:v", encoder.name, *(word for k, v in settings for word in (f"-{k}", v))]


def _flac(options: BuildOptions) -> list[str]:
    return ["-c:a", "flac", "-ac", "1", "-ar", str(options.sample_rate_hz)]


def _ffmpeg(arguments: Sequence[str]) -> None:
    _call(["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments])


def _call(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment or os.environ
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def cost_of(way: Way) -> Cost:
    """Of one run, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        before, begin = _children(), time.perf_counter()
        way.run(Path(folder))
        return Cost(_children() - before, time.perf_counter() - begin)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def costs_of(ways: Sequence[Way], rounds: int) -> list[list[Cost]]:
    """The costs of each way in every round; the ways take turns."""
    costs: list[list[Cost]] = [[] for _ in ways]
    for _ in range(rounds):
        for number, way in enumerate(ways):
            costs[number].append(cost_of(way))
    return costs


def cost_table(paths: Sequence[Path], seconds: float, rounds: int) -> Table:
    """CPU and wall time of every way."""
    options = BuildOptions(clip_seconds=CLIP_SECONDS)
    start = Way("of that, to start: one clip of half a second", ours(paths[:1], 0.5, 1).run)
    ways = [ours(paths, seconds, 1), ours(paths, seconds, 2), start]
    if shutil.which("ffmpeg"):
        ways += [one_ffmpeg(paths, seconds, options), three_ffmpeg(paths, seconds, options)]
    table = Table(title=f"{len(paths)} files of {seconds:g} s, {rounds} rounds, medians")
    table.add_column("")
    for heading in ("CPU s", "least", "× ffmpeg", "without start", "wall s", "× faster than 1"):
        table.add_column(heading, justify="right")
    cost_of(start)  # compiles
    costs = costs_of(ways, rounds)
    for number, (way, mine) in enumerate(zip(ways, costs, strict=True)):
        bare = [b.cpu for b in costs[3]] if len(ways) > 3 else None
        cpu = [c.cpu for c in mine]
        ratio = without = faster = "–"
        if bare and number != 2:
            ratio = f"{_median_ratio(cpu, bare):.2f}"
        if bare and number == 0:
            started = [c.cpu - s.cpu for c, s in zip(mine, costs[2], strict=True)]
            without = f"{_median_ratio(started, bare):.2f}"
        if number == 1:
            faster = f"{_median_ratio([c.wall for c in costs[0]], [c.wall for c in mine]):.2f}"
        wall = statistics.median(c.wall for c in mine)
        shown = (f"{statistics.median(cpu):.2f}", f"{min(cpu):.2f}", ratio, without)
        table.add_row(way.name, *shown, f"{wall:.2f}", faster)
    return table


def _median_ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """The median over the rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("film", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0, help="of the film, in all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=("cost", "quality"), help="one of the two tables")
    arguments = parser.parse_args()
    console = Console(width=130)
    each = max(CLIP_SECONDS, arguments.seconds / NUM_FILES // CLIP_SECONDS * CLIP_SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        paths = cut_film(arguments.film, Path(folder), each * NUM_FILES)
        if arguments.only != "quality":
            console.print(cost_table(paths, each, arguments.rounds))
            if not shutil.which("ffmpeg"):
                console.print("There is no ffmpeg on the path: its rows are left out.")
            cores = len(os.sched_getaffinity(0))
            console.print(f"{cores} cores, load {os.getloadavg()[0]:.1f}; {_versions()}")
        if arguments.only != "cost":
            console.print(quality_table(paths[0], each))


def _versions() -> str:
    ours = ".".join(str(n) for n in av.library_versions["libavcodec"])
    found = f"libavcodec {ours} in PyAV {av.__version__}"
    if shutil.which("ffmpeg"):
        told = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True)
        found += f", {' '.join(told.stdout.split()[:3])}"
    return found


if __name__ == "__main__":
    main()
