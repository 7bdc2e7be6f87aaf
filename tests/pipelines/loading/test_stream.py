"""The stream's promises: every sample once, resume bit for bit, the same batches for any ranks."""

import pickle
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import pipelines.loading.stream as stream_module
from gdt.plan import Plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.evaluation import evaluation_batches
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import StateError, Stream, StreamOptions
from pipelines.sampling.draws import uniform
from pipelines.sampling.order import Order
from pipelines.skips import SkipLog, TooManySkipsError
from shards import Dataset

SAMPLE = {"relation": "distinctive"}
SHIFTS: dict[str, Any] = {"relation": "distinctive", "draws": 2}
MODALITY: dict[str, Any] = {
    "relation": "invariant",
    "values": ["video", "audio"],
    "pairs": "cross",
}
PLAN = Plan.from_tables({"sample": SAMPLE, "time_shift": SHIFTS, "modality": MODALITY})
SEGMENT = SegmentOptions(seconds=0.5, num_frames=4)


def stream_of(dataset: Dataset, **changes: Any) -> Stream:
    options = {"batch_size": 6, "threads": 2, "prefetch": 1} | {
        key: changes.pop(key) for key in ("batch_size", "threads", "prefetch") if key in changes
    }
    settings: dict[str, Any] = {"plan": PLAN, "segment_options": SEGMENT, "seed": 3} | changes
    return Stream(dataset, stream_options=StreamOptions(**options), **settings)


def assert_equal(a: RawBatch, b: RawBatch) -> None:
    for name in ("frames", "audio", "sample", "shift", "start_seconds"):
        x, y = getattr(a, name), getattr(b, name)
        assert x is y is None or torch.equal(x, y), name
    assert (a.keys, a.epoch, a.step) == (b.keys, b.epoch, b.step)


def test_an_epoch_is_the_order_in_batches(small_dataset: Dataset) -> None:
    stream = stream_of(small_dataset)
    assert (len(stream), stream.left_out) == (4, 2)
    order = Order(3, 26)
    for epoch in range(2):
        batches = list(stream)
        assert [(b.epoch, b.step) for b in batches] == [(epoch, step) for step in range(4)]
        samples = torch.cat([b.sample for b in batches])
        assert samples[::2].tolist() == order.samples(epoch, np.arange(24)).tolist()
        assert torch.equal(samples[::2], samples[1::2])
        assert batches[0].shift.tolist() == [0, 1] * 6
        assert batches[0].keys[0] == f"clip-{int(samples[0]):04d}"
    assert stream.finished_epoch is not None
    assert (stream.finished_epoch.delivered, stream.finished_epoch.skipped) == (24, 0)


def test_rows_are_the_segments_that_the_draws_say(small_dataset: Dataset) -> None:
    reader = SegmentReader(small_dataset, SEGMENT)
    batch = next(iter(stream_of(small_dataset)))
    assert batch.frames is not None
    assert batch.audio is not None
    for row in range(0, len(batch), 5):
        sample, shift = int(batch.sample[row]), int(batch.shift[row])
        start = float(uniform(3, 0, sample, "time_shift", shift)) * (1.2 - 0.5)
        assert float(batch.start_seconds[row]) == pytest.approx(start, abs=1e-12)
        segment = reader.segments(sample, [float(batch.start_seconds[row])])[0]
        assert segment.video is not None
        assert segment.audio is not None
        assert np.array_equal(batch.frames[row].numpy(), segment.video)
        assert np.array_equal(batch.audio[row].numpy(), segment.audio)


def apart(seconds: float, draws: int = 2) -> Plan:
    shifts = SHIFTS | {"draws": draws, "min_seconds_apart": seconds}
    return Plan.from_tables({"sample": SAMPLE, "time_shift": shifts, "modality": MODALITY})


def test_time_shifts_start_as_far_apart_as_the_plan_says(small_dataset: Dataset) -> None:
    stream = stream_of(small_dataset, plan=apart(0.3, 3))
    starts = torch.cat([batch.start_seconds for batch in stream]).reshape(-1, 3).numpy()
    assert np.diff(np.sort(starts), axis=1).min() >= 0.3 - 1e-12
    assert (starts.min() >= 0, starts.max() <= 0.7 + 1e-12) == (True, True)
    again = stream_of(small_dataset, plan=apart(0.3, 3), threads=1)
    again.seek(0, 2)
    assert next(iter(again)).start_seconds.numpy().tolist() == starts[12:18].ravel().tolist()
    again.close()


def test_a_plan_without_a_distance_draws_what_it_always_drew(small_dataset: Dataset) -> None:
    got = [b.start_seconds.numpy() for b in stream_of(small_dataset)]
    order = Order(3, 26).samples(0, np.arange(24))
    reader = SegmentReader(small_dataset, SEGMENT)
    for number, starts in zip(order, np.concatenate(got).reshape(-1, 2), strict=True):
        start, stop = reader.span(small_dataset.sample(int(number)))
        places = uniform(3, 0, int(number), "time_shift", np.arange(2))
        assert starts.tolist() == (start + places * (stop - start - 0.5)).tolist()


def test_a_clip_too_short_for_the_distance_is_skipped_with_numbers(
    corpus: Any, small_members: list[dict[str, bytes]], tmp_path: Path
) -> None:
    short = corpus.members(corpus.clip(corpus.constant_rate(10, 0.9), corpus.noise(0.9)))
    dataset = corpus.write(tmp_path, [*small_members[:5], short])
    log = SkipLog(tmp_path / "skips.jsonl")
    sizes = [len(batch) for batch in stream_of(dataset, plan=apart(0.6), skip_log=log)]
    assert sizes == [10]
    text = (tmp_path / "skips.jsonl").read_text()
    assert "its tracks have 0.900 s in common, and 2 segments of 0.500 s" in text
    assert "0.6 s apart need 1.100 s" in text


@pytest.mark.parametrize(("plan", "needed"), [(apart(0.8), "1.3"), (apart(0.4, 3), "1.3")])
def test_a_data_set_too_short_for_the_distance_is_refused_with_numbers(
    small_dataset: Dataset, plan: Plan, needed: str
) -> None:
    text = f"need clips of {needed} s, and the longest of .* has 1.200 s: lower it or the draws"
    with pytest.raises(ValueError, match=text):
        stream_of(small_dataset, plan=plan)


def test_the_share_that_overlaps_is_that_of_the_clips(small_dataset: Dataset) -> None:
    assert stream_of(small_dataset).overlapping_share == pytest.approx(1 - (1 - 0.5 / 0.7) ** 2)
    assert stream_of(small_dataset, plan=apart(0.5)).overlapping_share == 0


def test_threads_and_prefetch_change_nothing(small_dataset: Dataset) -> None:
    expected = list(stream_of(small_dataset, threads=1, prefetch=0))
    for threads, prefetch in ((1, 3), (3, 0), (4, 9)):
        got = list(stream_of(small_dataset, threads=threads, prefetch=prefetch))
        for a, b in zip(expected, got, strict=True):
            assert_equal(a, b)


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_ranks_share_the_same_global_batches(small_dataset: Dataset, num_ranks: int) -> None:
    whole = list(stream_of(small_dataset))
    shares = [
        list(stream_of(small_dataset, rank=rank, num_ranks=num_ranks)) for rank in range(num_ranks)
    ]
    for step, expected in enumerate(whole):
        parts = [share[step] for share in shares]
        for name in ("frames", "audio", "sample", "shift", "start_seconds"):
            assert torch.equal(
                torch.cat([getattr(p, name) for p in parts]), getattr(expected, name)
            )


def test_resume_is_bit_for_bit_the_unbroken_run(small_dataset: Dataset) -> None:
    unbroken, stream = [], stream_of(small_dataset)
    for _ in range(3):
        unbroken += list(stream)
    assert len(unbroken) == 12
    for stop in range(12):
        first = stream_of(small_dataset)
        for _ in range(stop // 4):
            list(first)
        iterator = iter(first)
        for _ in range(stop % 4):
            next(iterator)
        state = pickle.loads(pickle.dumps(first.state_dict()))
        first.close()
        second = stream_of(small_dataset, threads=1 + stop % 3, prefetch=stop % 2)
        second.load_state_dict(state)
        resumed = [next(iter(second)) for _ in range(min(3, 12 - stop))]
        for a, b in zip(unbroken[stop:], resumed, strict=False):
            assert_equal(a, b)
        second.close()


@pytest.mark.parametrize(("threads", "prefetch"), [(1, 0), (2, 1)])
def test_resuming_costs_the_same_at_every_position(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, threads: int, prefetch: int
) -> None:
    """Counted, not timed: what is looked up, read and drawn until the first batch is there."""
    work: Counter[str] = Counter()

    def counting(owner: Any, name: str, amount: Callable[..., int]) -> None:
        plural = getattr(owner, name)

        def count(*arguments: Any, **keywords: Any) -> Any:
            work[name] += amount(*arguments)
            return plural(*arguments, **keywords)

        monkeypatch.setattr(owner, name, count)

    counting(Dataset, "sample", lambda *_: 1)
    counting(Order, "samples", lambda order, epoch, places: np.size(places))
    counting(stream_module, "uniform", lambda *arguments: np.size(arguments[2]))
    costs = []
    for epoch, step in ((0, 0), (0, 3), (1, 2), (10**9, 1)):
        stream = stream_of(small_dataset, threads=threads, prefetch=prefetch)
        state = stream.state_dict() | {"epoch": epoch, "step": step}
        work.clear()
        stream.load_state_dict(state)
        batch = next(iter(stream))
        stream.close()  # waits for what has begun, drops the rest
        assert (batch.epoch, batch.step) == (epoch, step)
        if prefetch:
            assert 6 <= work.pop("sample") <= 6 * (1 + prefetch)  # as many as were begun
        costs.append(dict(work))
    assert costs == [costs[0]] * 4
    assert costs[0]["samples"] == 6 * (1 + prefetch)


def test_whoever_waits_for_a_batch_is_told_that_the_stream_was_closed(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, may_end, closing = threading.Event(), threading.Event(), threading.Event()
    decode, shutdown = SegmentReader.fill_sample, ThreadPoolExecutor.shutdown

    def wait_and_decode(*arguments: Any) -> Any:
        begun.set()
        assert may_end.wait(60)
        return decode(*arguments)

    def tell_and_shut_down(*arguments: Any, **options: Any) -> None:
        closing.set()
        shutdown(*arguments, **options)

    stream = stream_of(small_dataset, threads=1)
    monkeypatch.setattr(SegmentReader, "fill_sample", wait_and_decode)
    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", tell_and_shut_down)
    told: list[str] = []

    def consume() -> None:
        try:
            list(stream)
        except (CancelledError, RuntimeError) as error:  # as it waits, or as it asks for more
            told.append(str(error))

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    assert begun.wait(60)
    closer = threading.Thread(target=stream.close, daemon=True)
    closer.start()
    assert closing.wait(60)
    closer.join(0.5)  # it waits for the sample that has begun
    may_end.set()
    for thread in (closer, consumer):
        thread.join(60)
        assert not thread.is_alive()
    assert len(told) == 1


def test_state_is_a_few_numbers_and_normal_at_the_end_of_an_epoch(small_dataset: Dataset) -> None:
    stream = stream_of(small_dataset)
    assert (stream.state_dict()["epoch"], stream.state_dict()["step"]) == (0, 0)
    list(stream)
    state = stream.state_dict()
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(isinstance(value, int | str) for value in state.values())
    stream.seek(7, 4)
    assert (stream.epoch, stream.step) == (8, 0)
    with pytest.raises(ValueError, match="an epoch has steps 0 to 3"):
        stream.seek(0, 5)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 4}, "seed"),
        ({"batch_size": 5}, "batch_size"),
        (
            {"plan": Plan.from_tables({"sample": SAMPLE, "modality": MODALITY})},
            "plan",
        ),
    ],
)
def test_another_run_is_refused_with_both_values(
    small_dataset: Dataset, changes: dict[str, Any], field: str
) -> None:
    state = stream_of(small_dataset).state_dict()
    other = stream_of(small_dataset, **changes)
    with pytest.raises(StateError) as caught:
        other.load_state_dict(state)
    for value in (field, repr(state[field]), repr(other.state_dict()[field])):
        assert value in str(caught.value)


def test_another_data_set_or_version_is_refused(
    corpus: Any, small_dataset: Dataset, small_members: list[dict[str, bytes]], tmp_path: Path
) -> None:
    stream = stream_of(small_dataset)
    other = stream_of(corpus.write(tmp_path, small_members[:6]))
    with pytest.raises(StateError, match=f"dataset '{small_dataset.fingerprint}' and this one"):
        other.load_state_dict(stream.state_dict())
    with pytest.raises(StateError, match="version 0 and this one 1"):
        stream.load_state_dict({**stream.state_dict(), "version": 0})


def test_a_dropped_iterator_loses_nothing(small_dataset: Dataset) -> None:
    expected = list(stream_of(small_dataset))
    stream, got = stream_of(small_dataset), []
    for _ in range(4):
        for batch in stream:
            got.append(batch)
            break
    for a, b in zip(expected, got, strict=True):
        assert_equal(a, b)


def test_a_stream_can_be_sent_to_another_process(small_dataset: Dataset) -> None:
    stream = stream_of(small_dataset)
    first = next(iter(stream))
    copy = pickle.loads(pickle.dumps(stream))
    assert_equal(next(iter(copy)), next(iter(stream)))
    assert first.step == 0


@pytest.fixture
def damaged(corpus: Any, small_members: list[dict[str, bytes]], tmp_path: Path) -> Dataset:
    """Thirty clips, of which 4 and 11 have wrong bytes in every video packet."""
    dataset: Dataset = corpus.write(tmp_path, small_members)
    for index in (4, 11):
        sample = dataset.sample(index)
        assert sample.video is not None
        with (Path(dataset.path) / sample.shard).open("r+b") as file:
            for offset in sample.video.packets.offset.tolist():
                file.seek(offset + 8)
                file.write(b"\xff\xff\xff")
    return dataset


def test_a_skip_leaves_its_place_empty_and_is_written_down(
    damaged: Dataset, tmp_path: Path
) -> None:
    skip_log = SkipLog(tmp_path / "skips.jsonl")
    stream = stream_of(damaged, skip_log=skip_log)
    batches = list(stream)
    order = Order(3, 30).samples(0, np.arange(30)).reshape(5, 6)
    for row, batch in zip(order, batches, strict=True):
        kept = [i for i in row.tolist() if i not in (4, 11)]
        assert batch.sample[::2].tolist() == kept
        assert batch.frames is not None
        assert len(batch.frames) == 2 * len(kept)
    assert stream.finished_epoch is not None
    assert (stream.finished_epoch.delivered, stream.finished_epoch.skipped) == (28, 2)
    lines = (tmp_path / "skips.jsonl").read_text().splitlines()
    assert len(lines) == 2
    assert {f'"key": "clip-{i:04d}"' in line for i in (4, 11) for line in lines} == {True, False}
    assert all('"stage": "checksum"' in line and '"epoch": 0' in line for line in lines)


def test_accounts_add_up_after_a_resume_in_the_middle(damaged: Dataset) -> None:
    stream = stream_of(damaged)
    stream.seek(2, 3)
    list(stream)
    assert stream.finished_epoch is not None
    assert stream.finished_epoch.total == 2 * 6
    list(stream)
    assert stream.finished_epoch.total == 30


def test_too_many_skips_stop_the_run(damaged: Dataset) -> None:
    stream = stream_of(damaged, skip_log=SkipLog(floor=10))
    with pytest.raises(TooManySkipsError, match=r"of \d+ samples were skipped.*checksum"):
        list(stream)


def test_a_batch_of_which_nothing_is_left_is_passed_over(damaged: Dataset) -> None:
    stream = stream_of(damaged, batch_size=1)
    steps = {batch.step: batch.sample.tolist() for batch in stream}
    order = Order(3, 30).samples(0, np.arange(30)).tolist()
    assert steps == {n: [s, s] for n, s in enumerate(order) if s not in (4, 11)}
    assert stream.finished_epoch is not None
    assert (stream.finished_epoch.delivered, stream.finished_epoch.skipped) == (28, 2)
    last = stream_of(damaged, batch_size=1)
    last.seek(0, order.index(4))
    assert next(iter(last)).step == order.index(4) + 1
    last.close()


def test_of_several_ranks_one_that_has_nothing_says_so_to_the_others(damaged: Dataset) -> None:
    place = Order(3, 30).samples(0, np.arange(30)).tolist().index(4)
    stream = stream_of(damaged, batch_size=2, rank=place % 2, num_ranks=2)
    stream.seek(0, place // 2)
    batch = next(iter(stream))
    assert (len(batch), batch.epoch, batch.step) == (0, 0, place // 2)
    stream.close()


def test_a_bug_fails_at_once_and_names_the_sample(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = stream_of(small_dataset)
    culprit = int(Order(3, 26).samples(0, np.arange(24))[8])

    def broken(sample: Any, starts: Any, frames: Any, audio: Any) -> None:
        if sample.key == f"clip-{culprit:04d}":
            raise ZeroDivisionError("a bug")

    monkeypatch.setattr(stream._reader, "fill", broken)
    iterator = iter(stream)
    next(iterator)
    with pytest.raises(ZeroDivisionError, match="a bug") as caught:
        next(iterator)
    assert f"at sample {culprit}, 'clip-{culprit:04d}' of shard-" in caught.value.__notes__[0]
    assert (stream.epoch, stream.step) == (0, 1)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"batch_size": 27}, "26 samples and data.batch_size is 27"),
        ({"rank": 2, "num_ranks": 2}, "rank 2 of 2"),
        ({"num_ranks": 7}, "batch_size = 6 is shared by 7 ranks"),
        ({"batch_size": 0}, "batch_size = 0, must be at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    small_dataset: Dataset, changes: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        stream_of(small_dataset, **changes)


def test_only_what_the_plan_needs_is_decoded(small_dataset: Dataset) -> None:
    images = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": ["image"]},
            "augmentation": {"relation": "invariant", "draws": 2},
        }
    )
    options = SegmentOptions(seconds=0.1, num_frames=1)
    batch = next(iter(stream_of(small_dataset, plan=images, segment_options=options)))
    assert batch.audio is None
    assert batch.frames is not None
    assert batch.frames.shape == (6, 1, 160 * 48 * 3 // 2)


def test_evaluation_takes_every_sample_once_in_order(small_dataset: Dataset) -> None:
    batches = list(evaluation_batches(small_dataset, PLAN.modalities, SEGMENT, 3, batch_size=10))
    assert [len(b) for b in batches] == [30, 30, 18]
    assert torch.cat([b.sample for b in batches]).tolist() == np.arange(26).repeat(3).tolist()
    assert batches[0].shift.tolist() == [0, 1, 2] * 10
    expected = (np.arange(3) + 0.5) / 3 * 0.7
    np.testing.assert_allclose(batches[0].start_seconds[:3], expected, atol=1e-9)


def test_evaluation_leaves_skipped_samples_out(damaged: Dataset) -> None:
    skip_log = SkipLog()
    batches = list(evaluation_batches(damaged, ("video",), SEGMENT, skip_log=skip_log))
    samples = torch.cat([b.sample for b in batches]).tolist()
    assert samples == [i for i in range(30) if i not in (4, 11)]
    assert (skip_log.seen.delivered, skip_log.seen.skipped) == (28, 2)


def test_a_torch_loader_without_workers_hands_out_the_streams_batches(
    small_dataset: Dataset,
) -> None:
    stream = stream_of(small_dataset)
    loader: DataLoader[RawBatch] = DataLoader(stream, batch_size=None)
    assert len(loader) == 4
    alone = stream_of(small_dataset)
    for epoch in range(2):
        for found, expected in zip(loader, alone, strict=True):
            assert_equal(found, expected)
        assert (stream.epoch, stream.step) == (epoch + 1, 0)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_torch_loader_are_told_what_to_do_instead(
    small_dataset: Dataset, context: str
) -> None:
    stream = stream_of(small_dataset)
    next(iter(stream))  # its threads run, and a forked worker has none of them
    loader: DataLoader[RawBatch] = DataLoader(
        stream, batch_size=None, num_workers=2, multiprocessing_context=context, timeout=60
    )
    told = r"num_workers = 2: each worker would hand out every batch.*num_workers=0\), or iterate"
    with pytest.raises(RuntimeError, match=told):
        next(iter(loader))
    assert next(iter(stream)).step == 1
    stream.close()
