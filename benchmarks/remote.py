"""What a segment costs from afar, side by side in one run: `python -m benchmarks.remote [SHARDS]`.

A server of its own process on 127.0.0.1 counts requests and bytes, and answers after 0 or 20 ms.
Every way gets one second of picture and sound out of every sample, and takes turns with the others,
round by round. Nothing is decoded: what is measured is how the bytes come. Needed bytes are those
of the groups of pictures up to the last frame that is wanted, and of the sound. "right" compares
all that came with the files on the disk.
"""

import argparse
import http.client
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.made_up_shards import write_made_up_shards
from pipelines.decoding.backends.packets import runs_of
from pipelines.decoding.segment import SegmentOptions, frames_on_screen
from shards import Dataset, IndexedSample, RemoteOptions

LATENCIES_MS, THREADS = (0, 20), (1, 8)


@dataclass(frozen=True, eq=False)
class Job:
    """A sample, the (offset, size) ranges that a second of it needs, and their bytes."""

    sample: IndexedSample
    ranges: list[tuple[int, int]]
    bodies: list[bytes]


@dataclass(eq=False)
class Way:
    """What one way to read took.

    rates: segments/s of each round, by (latency, threads). requests, bytes: of one segment.
    """

    name: str
    rates: dict[tuple[int, int], list[float]] = field(default_factory=dict)
    requests: float = 0.0
    bytes: float = 0.0
    right: bool = True


class Server:
    """The range server in a process of its own."""

    def __init__(self, folder: Path, latency_ms: int) -> None:
        command = [sys.executable, "-m", "benchmarks.range_server", str(folder)]
        command += ["--latency-seconds", str(latency_ms / 1000)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def served(self) -> tuple[int, int]:
        """Requests and bytes since the last call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/-/served")
        figures = json.loads(connection.getresponse().read())
        connection.close()
        return figures["requests"], figures["bytes"]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def make_jobs(dataset: Dataset) -> list[Job]:
    """One random second of every sample, in random order, the same in every run."""
    rng, options = np.random.default_rng(0), SegmentOptions()
    jobs = []
    for i in rng.permutation(len(dataset)).tolist():
        sample = dataset.sample(i)
        video, audio = sample.video, sample.audio
        assert video is not None
        assert audio is not None
        stop = min(video.stop_seconds, audio.stop_seconds)
        start = float(rng.uniform(0, stop - options.seconds))
        wanted = frames_on_screen(video, np.array([start]), options)[0]
        spans = [(video.packets, run.first, run.stop) for run in runs_of(video.packets, wanted)]
        ticks = np.array([start, start + options.seconds]) / float(audio.time_base)
        first, last = np.searchsorted(audio.packets.pts, ticks, side="right").tolist()
        spans.append((audio.packets, first - 1, last))
        ranges = []
        for packets, a, b in spans:
            begin = int(packets.offset[a])
            ranges.append((begin, int(packets.offset[b - 1]) + int(packets.size[b - 1]) - begin))
        jobs.append(Job(sample, ranges, dataset.read_many(sample, ranges)))
    return jobs


@contextmanager
def opened(url: str, cache: Path, range_cache_bytes: int) -> Iterator[Dataset]:
    """The data set with its indexes there, as after the first samples of an epoch."""
    options = RemoteOptions(cache_folder=str(cache), range_cache_bytes=range_cache_bytes)
    dataset = Dataset.open(url, remote=options)
    stop = 0
    for shard in dataset.manifest.shards:
        dataset.sample(stop)
        stop += shard.num_samples
    yield dataset


def in_threads(count: int, jobs: Sequence[Job], do: Callable[[Job], bool]) -> bool:
    """All jobs on `count` threads."""
    with ThreadPoolExecutor(count) as pool:
        right = list(pool.map(do, jobs))
    return all(right)


def ranges_at_once(dataset: Dataset, jobs: Sequence[Job], threads: int, check: bool) -> bool:
    """As the stream should read."""

    def do(job: Job) -> bool:
        bodies = dataset.read_many(job.sample, job.ranges)
        return not check or bodies == job.bodies

    return in_threads(threads, jobs, do)


def ranges_in_turn(dataset: Dataset, jobs: Sequence[Job], threads: int, check: bool) -> bool:
    """A request for each range, one after the other."""

    def do(job: Job) -> bool:
        bodies = [dataset.read(job.sample, *r) for r in job.ranges]
        return not check or bodies == job.bodies

    return in_threads(threads, jobs, do)


def whole_samples(url: str, jobs: Sequence[Job], threads: int, check: bool) -> bool:
    """One request for all members of a sample, by fsspec alone."""
    import fsspec

    files = fsspec.filesystem("http")

    def do(job: Job) -> bool:
        members = job.sample.members.values()
        first = min(m.offset for m in members)
        stop = max(m.offset + m.size for m in members)
        data = files.cat_file(f"{url}/{job.sample.shard}", start=first, end=stop)
        taken = [data[o - first : o - first + size] for o, size in job.ranges]
        return not check or taken == job.bodies

    return in_threads(threads, jobs, do)


def web_dataset(url: str, jobs: Sequence[Job], threads: int, check: bool) -> bool:
    """Whole shards in order, as webdataset streams them; a thread has every n-th shard."""
    import webdataset

    expected = {job.sample.key: job for job in jobs}
    shards = sorted({job.sample.shard for job in jobs})
    seen: list[bool] = []
    lock = threading.Lock()

    def stream(part: Sequence[str]) -> None:
        if not part:
            return
        urls = [f"{url}/{name}" for name in part]
        for got in webdataset.WebDataset(urls, shardshuffle=False, empty_check=False):
            right = True
            if check:
                job = expected[got["__key__"]]
                members = job.sample.members
                taken = []
                for offset, size in job.ranges:
                    inside = [m for m in members.values() if 0 <= offset - m.offset < m.size]
                    begin = offset - inside[0].offset
                    taken.append(got[inside[0].extension][begin : begin + size])
                right = taken == job.bodies
            with lock:
                seen.append(right)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(stream, [shards[i::threads] for i in range(threads)]))
    return len(seen) == len(jobs) and all(seen)


def measure(folder: Path, rounds: int, jobs: Sequence[Job], scratch: Path) -> list[Way]:
    """All ways, by turns."""
    ways: list[Way] = []
    for latency in LATENCIES_MS:
        server = Server(folder, latency)
        kept = scratch / f"kept-{latency}"
        with (
            opened(server.url, scratch / "cache", 0) as bare,
            opened(server.url, kept, 1 << 40) as caching,
        ):
            runs: dict[str, Callable[[Sequence[Job], int, bool], bool]] = {
                "GOPs and sound at once (read_many)": lambda *a, d=bare: ranges_at_once(d, *a),
                "GOPs, then sound (read)": lambda *a, d=bare: ranges_in_turn(d, *a),
                "the same segments again (cache)": lambda *a, d=caching: ranges_at_once(d, *a),
                "whole sample by range (fsspec)": lambda *a, u=server.url: whole_samples(u, *a),
            }
            if shutil.which("curl"):
                runs["whole shards (webdataset, curl)"] = lambda *a, u=server.url: web_dataset(
                    u, *a
                )
            if not ways:
                ways = [Way(name) for name in runs]
            for way in ways:  # a round that is not timed: all is opened, checked and counted
                way.right &= runs[way.name](jobs, 1, True)
                server.served()
                way.right &= runs[way.name](jobs, 8, True)
                requests, size = server.served()
                way.requests, way.bytes = requests / len(jobs), size / len(jobs)
            for _ in track(range(rounds), f"{latency} ms", transient=True):
                for way in ways:
                    for threads in THREADS:
                        began = time.perf_counter()
                        runs[way.name](jobs, threads, False)
                        rate = len(jobs) / (time.perf_counter() - began)
                        way.rates.setdefault((latency, threads), []).append(rate)
        server.close()
    return ways


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shards", type=Path, nargs="?", help="a data set; made up by default")
    parser.add_argument("--samples", type=int, default=64, help="of the made-up data set")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.shards
        if folder is None:
            folder = Path(scratch) / "made"
            write_made_up_shards(folder, given.samples, 4, seconds=10.0)
        dataset = Dataset.open(folder)
        jobs = make_jobs(dataset)
        ways = measure(folder, given.rounds, jobs, Path(scratch))
        needed = statistics.fmean(sum(size for _, size in job.ranges) for job in jobs)
    index = sum(s.index_size for s in dataset.manifest.shards) / len(dataset)
    table = Table(
        title=f"{len(jobs)} segments of {len(dataset.manifest.shards)} shards, medians of "
        f"{given.rounds}; {needed / 1024:.1f} KiB needed a segment",
        caption=f"Indexes: {index / 1024:.1f} KiB a sample, once; in no row.",
    )
    for column in ("", "requests", "KiB", "× needed"):
        table.add_column(column, justify="left" if not column else "right")
    for latency in LATENCIES_MS:
        for threads in THREADS:
            table.add_column(f"{latency} ms, {threads} thr\nsegments/s", justify="right")
    table.add_column("right")
    for way in ways:
        rates = [f"{statistics.median(rate):.0f}" for rate in way.rates.values()]
        sizes = [f"{way.requests:.2f}", f"{way.bytes / 1024:.1f}", f"{way.bytes / needed:.2f}"]
        table.add_row(way.name, *sizes, *rates, "yes" if way.right else "NO")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
