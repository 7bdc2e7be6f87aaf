"""A run whose shards lie behind a bad network is, bit for bit, the run whose shards lie here."""

import random
from pathlib import Path

import pytest

from benchmarks.range_server import Fault, RangeServer, Request
from benchmarks.textured_shards import write_textured_shards
from gdt import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.skips import SkipLog
from shards import Dataset, RemoteOptions

PLAN = Plan.from_tables(
    {
        "sample": {"relation": "distinctive"},
        "time_shift": {"relation": "distinctive", "draws": 2},
        "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
    }
)
NUM_CLIPS = 12


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("textured")
    return write_textured_shards(folder, NUM_CLIPS, short_side=32, seconds=3.0)


def epochs(dataset: Dataset, count: int, skip_log: SkipLog) -> list[RawBatch]:
    segment, options = SegmentOptions(num_frames=8), StreamOptions(batch_size=4, threads=3)
    stream = Stream(dataset, PLAN, segment, options, seed=1, skip_log=skip_log)
    batches = [batch for _ in range(count) for batch in stream]
    stream.close()
    return batches


def test_nothing_is_lost_and_nothing_wrong(local: Dataset, tmp_path: Path) -> None:
    rng = random.Random(2)

    def faults(number: int, _: Request) -> Fault | None:
        """Latency, 5 % resets and 5 % cut answers; the first three go wrong in any case."""
        draw = 0.1 * number / 3 if number < 3 else rng.random()
        if draw < 0.05:
            return Fault(reset_after=rng.randrange(20_000))
        return Fault(stop_after=rng.randrange(20_000)) if draw < 0.1 else None

    with RangeServer(Path(local.path), latency_seconds=0.001, faults=faults) as server:
        options = RemoteOptions(cache_folder=str(tmp_path), backoff_seconds=0.001)
        remote = Dataset.open(server.url, remote=options)
        skip_log = SkipLog()
        expected, got = epochs(local, 3, SkipLog()), epochs(remote, 3, skip_log)
    assert remote.traffic.broken >= 3
    assert skip_log.seen.skipped == 0
    assert skip_log.seen.delivered == 3 * NUM_CLIPS
    assert len(got) == len(expected) == 3 * NUM_CLIPS // 4
    for mine, other in zip(got, expected, strict=True):
        assert mine.keys == other.keys
        assert (mine.epoch, mine.step) == (other.epoch, other.step)
        for name in ("frames", "audio", "sample", "shift", "start_seconds"):
            assert getattr(mine, name).equal(getattr(other, name)), name


def test_what_cannot_be_had_is_a_named_skip(local: Dataset, tmp_path: Path) -> None:
    sample = local.sample(7)
    first = min(m.offset for m in sample.members.values())
    stop = max(m.offset + m.size for m in sample.members.values())

    def faults(_: int, request: Request) -> Fault | None:
        inside = request.name.endswith(".tar") and first <= request.first < stop
        return Fault(status=503) if inside else None

    with RangeServer(Path(local.path), faults=faults) as server:
        options = RemoteOptions(cache_folder=str(tmp_path), backoff_seconds=0.001, attempts=2)
        skip_log = SkipLog(path=tmp_path / "skips.jsonl")
        batches = epochs(Dataset.open(server.url, remote=options), 1, skip_log)
    assert (skip_log.seen.delivered, skip_log.seen.skipped) == (NUM_CLIPS - 1, 1)
    delivered = {int(i) for batch in batches for i in batch.sample}
    assert delivered == set(range(NUM_CLIPS)) - {7}
    line = (tmp_path / "skips.jsonl").read_text()
    assert sample.key in line
    assert "gave up after 2 attempts" in line
    assert "status 503" in line


def test_what_the_segments_of_a_sample_need_is_asked_for_together(
    local: Dataset, tmp_path: Path
) -> None:
    """Two shifts of picture and sound are at most four ranges; near ones are asked for as one."""
    with RangeServer(Path(local.path)) as server:
        options = RemoteOptions(cache_folder=str(tmp_path), range_cache_bytes=0)
        remote = Dataset.open(server.url, remote=options)
        remote.sample(0)  # the index
        before = remote.traffic.requests
        reader = SegmentReader(remote, SegmentOptions())
        reader.segments(0, [0.1, 1.9])
        assert remote.traffic.requests - before <= 4
