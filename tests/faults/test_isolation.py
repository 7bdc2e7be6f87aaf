"""A decoder that crashes or hangs costs its sample, where decoding is isolated."""

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.textured_shards import write_textured_shards
from gdt.named_plans import named_plan
from pipelines.decoding.isolation import Workers
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.decoding.shared_memory import SharedMemory
from pipelines.loading.batch_loader import Delivery, Request
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.loader import Loader, make_loader
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import Stream, StreamOptions
from pipelines.skips import MismatchError, SkipLog
from shards import Dataset
from tests.faults.failing_decoder import FailingDecoder, offset_of

OPTIONS = SegmentOptions(num_frames=6)
NUM_CLIPS = 10
LIMIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("isolated")
    return write_textured_shards(folder, NUM_CLIPS, short_side=32, seconds=2.0)


def equal(a: RawBatch, b: RawBatch) -> bool:
    assert a.frames is not None
    assert b.frames is not None
    assert a.audio is not None
    assert b.audio is not None
    same = a.frames.equal(b.frames) and a.audio.equal(b.audio) and a.keys == b.keys
    return same and a.start_seconds.equal(b.start_seconds) and a.sample.equal(b.sample)


def requests(num_batches: int, batch_size: int = 5, num_shifts: int = 2) -> Iterator[Request]:
    rng = np.random.default_rng(0)
    for step in range(num_batches):
        samples = (step * batch_size + np.arange(batch_size)) % NUM_CLIPS
        yield Request(0, step, samples, rng.random((batch_size, num_shifts)))


def delivered(
    dataset: Dataset,
    faults: dict[int, str] | None = None,
    limit_seconds: float | None = LIMIT_SECONDS,
    num_batches: int = 4,
) -> list[Delivery]:
    """Batches decoded by two workers, or by threads without a limit; `faults` by sample number."""
    reader = SegmentReader(dataset, OPTIONS)
    reader.backend = FailingDecoder(
        {offset_of(dataset.sample(index)): fault for index, fault in (faults or {}).items()}
    )
    loader = make_loader(reader, 2, 1, limit_seconds)
    try:
        return list(loader.deliveries(requests(num_batches)))
    finally:
        loader.close()


def test_workers_give_the_batches_of_threads(dataset: Dataset) -> None:
    plan = named_plan("v_shift")

    def epoch(*, isolate: bool) -> list[RawBatch]:
        options = StreamOptions(batch_size=4, threads=2, prefetch=1, isolate=isolate)
        stream = Stream(dataset, plan, OPTIONS, options, seed=5)
        batches = [batch for _ in range(2) for batch in stream]
        stream.close()
        return batches

    threads, workers = epoch(isolate=False), epoch(isolate=True)
    assert len(threads) == 2 * (NUM_CLIPS // 4)
    assert all(equal(a, b) for a, b in zip(threads, workers, strict=True))


@pytest.mark.parametrize(
    ("fault", "limit_seconds", "cause"),
    [
        ("segfault", LIMIT_SECONDS, "crashed its worker: SIGSEGV"),
        ("exit", LIMIT_SECONDS, "crashed its worker: exit status 3"),
        ("hang", 6.0, "took longer than 6 s"),
    ],
)
def test_a_crash_or_a_hang_costs_one_sample(
    dataset: Dataset, fault: str, limit_seconds: float, cause: str
) -> None:
    """Both samples that do it, each time they are asked for; all others are as by threads."""
    num_batches = 4 if fault != "hang" else 2
    bad = {3: fault, 4: fault}
    found = delivered(dataset, bad, limit_seconds, num_batches)
    expected = delivered(dataset, limit_seconds=None, num_batches=num_batches)
    for step, (mine, right) in enumerate(zip(found, expected, strict=True)):
        skips = [outcome for outcome in mine.outcomes if outcome is not None]
        assert [(skip.stage, skip.cause) for skip in skips] == [("decode", cause)] * len(skips)
        assert [skip.key for skip in skips] == [
            dataset.sample(index).key for index in (3, 4) if index // 5 == step % 2
        ]
        kept = [i for i, sample in enumerate(right.batch.sample.tolist()) if sample not in bad]
        for name in ("frames", "audio", "start_seconds"):
            assert getattr(mine.batch, name).equal(getattr(right.batch, name)[kept])


def test_the_skip_log_names_the_sample(dataset: Dataset, tmp_path: Path) -> None:
    skip_log = SkipLog(tmp_path / "skips.jsonl")
    options = StreamOptions(batch_size=5, threads=1, prefetch=0, isolate=True)
    stream = Stream(dataset, named_plan("v_shift"), OPTIONS, options, seed=5, skip_log=skip_log)
    bad = dataset.sample(7)
    stream._reader.backend = FailingDecoder({offset_of(bad): "segfault"})
    assert sum(len(batch) for batch in stream) == 2 * (NUM_CLIPS - 1)
    stream.close()
    (line,) = (tmp_path / "skips.jsonl").read_text().splitlines()
    assert f'"key": "{bad.key}", "stage": "decode", "cause": "crashed its worker: SIGSEGV"' in line


def test_evaluation_can_be_isolated_as_well(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = FailingDecoder({offset_of(dataset.sample(7)): "segfault"})
    monkeypatch.setattr("pipelines.decoding.data_set_decoder.make_backend", lambda *_: bad)
    skip_log = SkipLog()
    batches = evaluation_batches(
        dataset, ("video", "audio"), OPTIONS, skip_log=skip_log, isolate_seconds=LIMIT_SECONDS
    )
    seen = [sample for batch in batches for sample in batch.sample.tolist()]
    assert seen == [sample for sample in range(NUM_CLIPS) if sample != 7]
    assert (skip_log.seen.skipped, skip_log.causes) == (1, {"decode": 1})


def test_auto_takes_a_decoder_that_can_be_isolated(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where there is a GPU."""
    chosen = ("nvdec", "there is a GPU")
    monkeypatch.setattr("pipelines.decoding.data_set_decoder.choose_decoder", lambda _: chosen)
    options = StreamOptions(batch_size=4, isolate=True)
    stream = Stream(dataset, named_plan("v_shift"), OPTIONS, options, seed=5)
    assert stream.decoder == ("av", "data.isolate needs frames on the CPU")


def test_what_nobody_foresaw_in_a_worker_is_the_samples_skip(dataset: Dataset) -> None:
    plain, faulty = delivered(dataset)[0], delivered(dataset, {1: "unforeseen"})[0]
    assert [outcome is None for outcome in faulty.outcomes] == [True, False, True, True, True]
    told = r"decode: an unexpected ZeroDivisionError: nobody foresaw it \(failing_decoder.py, line "
    assert re.search(told, str(faulty.outcomes[1]))
    kept = torch.tensor([0, 1, 4, 5, 6, 7, 8, 9])
    assert faulty.batch.frames is not None
    assert plain.batch.frames is not None
    assert faulty.batch.frames.equal(plain.batch.frames[kept])


def test_what_is_not_the_samples_stops_the_run_and_names_it(dataset: Dataset) -> None:
    with pytest.raises(MismatchError, match=r"set segment\.frame_size") as caught:
        delivered(dataset, {1: "mismatch"})
    notes = "".join(caught.value.__notes__)
    assert f"This happened at sample 1, {dataset.sample(1).key!r}" in notes
    assert "In a decoding worker:" in notes
    assert "failing_decoder.py" in notes


@pytest.mark.skipif(sys.platform != "linux", reason="address space is bounded on Linux")
def test_a_sample_that_takes_too_much_memory_is_a_skip(dataset: Dataset) -> None:
    reader = SegmentReader(dataset, OPTIONS)
    reader.backend = FailingDecoder({offset_of(dataset.sample(1)): "hunger"})
    for megabytes, expected in ((256, [1]), (4096, [])):  # GiB that it asks for: one
        workers = Workers(reader, 1, LIMIT_SECONDS, memory_bytes=megabytes << 20)
        loader = Loader(reader, 1, 0, workers)
        (delivery,) = loader.deliveries(requests(1))
        loader.close()
        skips = {i: str(skip) for i, skip in enumerate(delivery.outcomes) if skip is not None}
        assert list(skips) == expected
        assert all("decode: took more memory than 256 MiB" in text for text in skips.values())


def test_a_skip_in_a_worker_is_the_skip_of_a_thread(dataset: Dataset) -> None:
    reader = SegmentReader(dataset, SegmentOptions(num_frames=6, seconds=3.0))
    loaders = [Loader(reader, 1, 0), Loader(reader, 1, 0, Workers(reader, 1, LIMIT_SECONDS))]
    texts = []
    for loader in loaders:
        (delivery,) = loader.deliveries(requests(1))
        texts.append([str(outcome) for outcome in delivery.outcomes])
        loader.close()
    assert texts[0] == texts[1]
    assert all("s in common, and a segment needs 3.000 s" in text for text in texts[0])


def test_closing_leaves_no_open_file(dataset: Dataset) -> None:
    delivered(dataset)  # the server of forks stays
    before = open_files()
    delivered(dataset, {3: "segfault"})
    assert open_files() == before


def test_closing_does_not_wait_for_a_hang(dataset: Dataset) -> None:
    reader = SegmentReader(dataset, OPTIONS)
    reader.backend = FailingDecoder({offset_of(dataset.sample(9)): "hang"})
    loader = make_loader(reader, 1, 1, isolate_seconds=3600.0)
    next(loader.deliveries(requests(2)))  # and the second batch has the one that hangs
    before = time.monotonic()
    loader.close()
    assert time.monotonic() - before < 60.0  # an hour is what the hanging sample may take


def test_isolation_needs_frames_in_the_memory_of_the_cpu(dataset: Dataset) -> None:
    reader = SegmentReader(dataset, OPTIONS)
    reader.decoder = "dali"
    with pytest.raises(ValueError, match=r"data.isolate: decoder = 'dali' decodes whole batches"):
        make_loader(reader, 1, 0, 30.0)
    reader.decoder = "nvdec"
    reader.backend.device = "cuda"
    with pytest.raises(ValueError, match=r"data.isolate: decoder = 'nvdec' leaves frames in a GPU"):
        make_loader(reader, 1, 0, 30.0)


def test_shared_memory_is_gone_with_its_last_user() -> None:
    before = open_files()
    memory = SharedMemory()
    block = memory.allocate(1000)
    view = block[100:200].view(np.int32)
    place = memory.place(view)
    assert place is not None
    assert (place.block, place.offset, place.shape, place.dtype) == (0, 100, (25,), "<i4")
    assert memory.changes({5}, {0})[1] == (5,)
    del block
    assert len(open_files()) > len(before)
    assert memory.changes({0}, {0}) == ({}, ())
    del view
    assert open_files() == before
    assert memory.changes({0}, set()) == ({}, (0,))
    with pytest.raises(ValueError, match="not in shared memory"):
        memory.place(np.zeros(3))


def open_files() -> list[str]:
    gc.collect()
    return sorted(file.name for file in Path("/proc/self/fd").iterdir())


RUN = """
import sys
from gdt.named_plans import named_plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.stream import Stream, StreamOptions
from shards import Dataset
from tests.faults.failing_decoder import FailingDecoder, offset_of

if __name__ == "__main__":
    dataset = Dataset.open(sys.argv[1])
    options = StreamOptions(batch_size=2, threads=2, prefetch=2, isolate=True)
    stream = Stream(dataset, named_plan("v_shift"), SegmentOptions(num_frames=6), options, seed=0)
    hangs = offset_of(dataset.sample(int(stream.order.samples(0, [3])[0])))
    stream._reader.backend = FailingDecoder({hangs: "hang in C"})
    for batch in stream:
        print("batch", flush=True)
"""


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker_and_no_memory(dataset: Dataset, tmp_path: Path) -> None:
    """SIGKILL, while one worker hangs in its decoder."""
    script = tmp_path / "run.py"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(dataset.path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "batch\n"
    family = descendants(run.pid)
    assert len(family) >= 3  # the server of forks and two workers
    maps = "".join(Path(f"/proc/{process}/maps").read_text() for process in (run.pid, *family))
    assert "/memfd:batch" in maps  # memory without a name: there is nothing that could be left
    assert "/dev/shm/" not in maps
    run.send_signal(signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 30
    while any(map(alive, family)) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = list(filter(alive, family))
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert left == []


def descendants(process: int) -> list[int]:
    children = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
                if int(parent) == process:
                    children.append(int(folder.name))
    return [p for child in children for p in (child, *descendants(child))]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match=r"isolate_seconds = 0\.0, must be positive"):
        StreamOptions(isolate_seconds=0.0)
