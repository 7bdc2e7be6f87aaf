"""What a segment costs to decode, side by side in one run: `python -m benchmarks.decode SHARDS`.

Every way gets the same segments of the same shards (random clips, random starts, 30 frames of one
second) and takes turns with the others, round by round, so that a busy machine is busy for all.
CPU ms is what one thread takes for a segment: of each segment the least and the median over the
rounds, then the mean. segments/s is wall-clock, by threads. "right" compares every frame and sample
with decoding the whole clip and choosing by time.
"""

import argparse
import io
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import av
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.bare_libavcodec import BareDecoder
from pipelines.decoding.backends import packets
from pipelines.decoding.backends.packets import read_packets, runs_of
from pipelines.decoding.segment import SegmentOptions, frames_on_screen
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.recycle import Recycler
from pipelines.skips import SkipCounts, SkipLog
from shards import Dataset, IndexedSample

Arrays = tuple[NDArray[np.uint8] | None, NDArray[np.float32] | None]


@dataclass(frozen=True, eq=False)
class Job:
    """One segment to decode."""

    sample: IndexedSample
    start: float
    wanted: NDArray[np.int64]


@dataclass(frozen=True)
class Way:
    """One way to decode: a job to frames [T, H·W·3/2] and samples [S]; None where it has none."""

    name: str
    decode: Callable[[Job], Arrays]
    parallel: bool = True


def make_jobs(reader: SegmentReader, count: int) -> list[Job]:
    """Random segments, the same in every run."""
    rng = np.random.default_rng(0)
    jobs = []
    for _ in range(count):
        sample = reader.dataset.sample(int(rng.integers(len(reader.dataset))))
        start = float(reader.starts(sample, rng.random(1))[0])
        assert sample.video is not None
        wanted = frames_on_screen(sample.video, np.array([start]), reader.options)[0]
        jobs.append(Job(sample, start, wanted))
    return jobs


def bare_way(reader: SegmentReader, jobs: Sequence[Job]) -> Way:
    """FFmpeg's decoder alone; packets lie ready in its memory."""
    first = jobs[0].sample.video
    assert first is not None
    decoder = BareDecoder(first.extradata)
    ready = {}
    for job in jobs:
        track = job.sample.video
        assert track is not None
        read = partial(reader.dataset.read, job.sample)
        ready[id(job)] = [
            [decoder.packet(bytes(b)) for b in read_packets(read, track, run.first, run.stop)]
            for run in runs_of(track.packets, job.wanted)
        ]

    def decode(job: Job) -> Arrays:
        for run in ready[id(job)]:
            decoder.decode(run)
        return None, None

    return Way("bare libavcodec, nothing copied", decode, parallel=False)


def our_way(reader: SegmentReader, name: str) -> Way:
    """What the stream does: read by range, verify, feed, copy."""
    memory, options = Recycler(limit=64), reader.options

    def decode(job: Job) -> Arrays:
        frames = audio = None
        if reader.video:
            frames = memory.empty((1, options.num_frames, reader.frame_bytes), np.uint8)
        if reader.audio:
            audio = memory.empty((1, options.num_samples), np.float32)
        reader.fill(job.sample, np.array([job.start]), frames, audio)
        return (None if frames is None else frames[0]), (None if audio is None else audio[0])

    return Way(name, decode)


def container_way(reader: SegmentReader) -> Way:
    """PyAV opening the clip's container each time, seeking, copying planes by `to_ndarray`."""

    def decode(job: Job) -> Arrays:
        track = job.sample.video
        assert track is not None
        ticks = [int(t) for t in track.packets.pts[job.wanted]]
        found: dict[int, NDArray[np.uint8]] = {}
        data = reader.dataset.read_member(job.sample, track.member)
        with av.open(io.BytesIO(data)) as container:
            stream: Any = container.streams.video[0]
            stream.codec_context.thread_count = 1
            container.seek(ticks[0], stream=stream)  # type: ignore[union-attr]
            for frame in container.decode(stream):  # type: ignore[union-attr]
                if frame.pts in ticks:
                    found[frame.pts] = frame.to_ndarray().reshape(-1)
                if frame.pts >= ticks[-1]:
                    break
        return np.stack([found[tick] for tick in ticks]), None

    return Way("PyAV, container opened each time", decode)


def torchcodec_way(reader: SegmentReader, mode: str) -> Way:
    """A container opened from bytes each time; gives RGB, so it is not compared to the bit."""
    decoders: Any = import_module("torchcodec.decoders")

    def decode(job: Job) -> Arrays:
        track = job.sample.video
        assert track is not None
        data = reader.dataset.read_member(job.sample, track.member)
        decoder = decoders.VideoDecoder(data, seek_mode=mode, num_ffmpeg_threads=1)
        seconds = reader.options.seconds
        middles = (np.arange(reader.options.num_frames) + 0.5) / reader.options.num_frames
        decoder.get_frames_played_at((job.start + middles * seconds).tolist())
        return None, None

    return Way(f"torchcodec {mode}, RGB", decode)


def whole_clip(reader: SegmentReader, job: Job) -> Arrays:
    """The oracle: decode everything, choose by time."""
    video, audio = job.sample.video, job.sample.audio
    assert video is not None
    with av.open(io.BytesIO(reader.dataset.read_member(job.sample, video.member))) as container:
        frames: list[Any] = list(container.decode(video=0))  # type: ignore[union-attr]
    times = np.array([float(frame.pts * frame.time_base) for frame in frames])
    options = reader.options
    middles = job.start + (np.arange(options.num_frames) + 0.5) / options.num_frames
    chosen = [int(np.flatnonzero(times <= middle + 1e-9).max()) for middle in middles]
    planes = np.stack([frames[i].to_ndarray().reshape(-1) for i in chosen])
    if audio is None or audio.codec != "flac" or audio.sample_rate_hz != options.sample_rate_hz:
        return planes, None
    with av.open(io.BytesIO(reader.dataset.read_member(job.sample, audio.member))) as container:
        parts = [f.to_ndarray()[0] for f in container.decode(audio=0)]  # type: ignore[union-attr]
    first = round((job.start - audio.start_seconds) * options.sample_rate_hz)
    sound = np.concatenate(parts)[first : first + options.num_samples]
    return planes, (sound / np.float32(32768)).astype(np.float32)


def is_right(reader: SegmentReader, way: Way, jobs: Sequence[Job]) -> str:
    """Whether a few segments equal the oracle's; a dash where a way gives nothing to compare."""
    verdicts = []
    for job in jobs[:10]:
        for got, expected in zip(way.decode(job), whole_clip(reader, job), strict=True):
            if got is not None and expected is not None:
                verdicts.append(np.array_equal(got, expected))
    return "–" if not verdicts else "yes" if all(verdicts) else "NO"


def cpu_ms(ways: Sequence[Way], jobs: Sequence[Job], rounds: int) -> list[tuple[float, float]]:
    """(least, median) CPU ms of each way, segment by segment over the rounds, then their mean."""
    taken = np.empty((len(ways), len(jobs), rounds))
    for turn in range(rounds):
        for number, way in enumerate(ways):
            for place, job in enumerate(jobs):
                begin = time.thread_time()
                way.decode(job)
                taken[number, place, turn] = (time.thread_time() - begin) * 1e3
    least, median = taken.min(axis=2).mean(axis=1), np.median(taken, axis=2).mean(axis=1)
    return list(zip(least.tolist(), median.tolist(), strict=True))


def checks_line(reader: SegmentReader, jobs: Sequence[Job], rounds: int) -> str:
    """What checksums and the skip log cost, by clocks around them: least, then mean."""
    ours, verify, skip_log, skip_counts = (
        our_way(reader, "").decode,
        packets._verify,
        SkipLog(),
        SkipCounts(),
    )
    spent = 0.0

    def timed(*arguments: Any) -> None:
        nonlocal spent
        begin = time.thread_time()
        verify(*arguments)
        spent += time.thread_time() - begin

    taken = np.empty((3, len(jobs), rounds))
    for turn in range(rounds):
        for place, job in enumerate(jobs):
            begin, spent = time.thread_time(), 0.0
            ours(job)
            taken[0, place, turn] = time.thread_time() - begin
            with patch.object(packets, "_verify", timed):
                ours(job)
            taken[1, place, turn] = spent
            begin = time.thread_time()
            skip_log.deliver(skip_counts)
            taken[2, place, turn] = time.thread_time() - begin
    whole, checksums, account_keeping = taken.min(axis=2).mean(axis=1) * 1e3
    return (
        f"checksums {checksums:.3f} ms and skip log and limits {account_keeping:.4f} ms of "
        f"{whole:.3f} ms: {(checksums + account_keeping) / whole:.1%} (goal: less than 3 %)"
    )


def per_second(way: Way, jobs: Sequence[Job], threads: int) -> float:
    """Segments a second on several threads, wall-clock; the median of three."""
    rates = []
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(way.decode, jobs[: 2 * threads]))
        for _ in range(3):
            begin = time.perf_counter()
            list(pool.map(way.decode, jobs))
            rates.append(len(jobs) / (time.perf_counter() - begin))
    return statistics.median(rates)


def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shards")
    parser.add_argument("--segments", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    dataset = Dataset.open(arguments.shards)
    options = SegmentOptions()
    reader = SegmentReader(dataset, options, audio=dataset.sample(0).audio is not None)
    jobs = make_jobs(reader, arguments.segments)
    ways = [
        bare_way(reader, jobs),
        our_way(SegmentReader(dataset, options, audio=False), "ours: video"),
        our_way(reader, "ours: video and its second of audio"),
        container_way(reader),
    ]
    if find_spec("torchcodec"):
        ways += [torchcodec_way(reader, mode) for mode in ("approximate", "exact")]
    right = [is_right(reader, way, jobs) for way in ways]
    costs = cpu_ms(ways, jobs, arguments.rounds)
    table = Table(
        title=f"{reader.width}×{reader.height}, {options.num_frames} frames, {dataset.path}"
    )
    for heading in ("", "CPU ms: least", "median", "× bare", "right"):
        table.add_column(heading, justify="left" if not heading else "right")
    for threads in arguments.threads:
        table.add_column(f"segments/s, {threads} threads", justify="right")
    for way, verdict, (least, median) in zip(ways, right, costs, strict=True):
        speeds = [
            f"{per_second(way, jobs, n):.0f}" if way.parallel or n == 1 else "–"
            for n in arguments.threads
        ]
        times_bare = f"{least / costs[0][0]:.2f}"
        table.add_row(way.name, f"{least:.3f}", f"{median:.3f}", times_bare, verdict, *speeds)
    console = Console(width=130)
    console.print(table)
    console.print(checks_line(reader, jobs, arguments.rounds))


if __name__ == "__main__":
    main()
