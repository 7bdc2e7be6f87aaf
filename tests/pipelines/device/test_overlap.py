"""Batches made one ahead, on a thread, are those made when asked for."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gdt.batch import Batch, View
from pipelines.device.overlap import Overlap
from pipelines.device.transform import DeviceOptions, DeviceTransform
from pipelines.loading.raw_batch import RawBatch
from tests.pipelines.device.test_transform import GDT, raw_batch

CPU = torch.device("cpu")


def steps(count: int) -> Iterator[RawBatch]:
    return (raw_batch((7, step), step=step) for step in range(count))


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "overlap"]


def test_made_ahead_is_what_is_made_when_asked_for() -> None:
    transform = DeviceTransform(GDT, DeviceOptions())
    ahead = list(Overlap(transform, CPU, background=True).batches(steps(3)))
    asked = list(Overlap(transform, CPU).batches(steps(3)))
    assert [batch.step for batch in ahead] == [batch.step for batch in asked] == [0, 1, 2]
    for one, other in zip(ahead, asked, strict=True):
        for name in ("video", "audio"):
            assert torch.equal(one.view(name).values, other.view(name).values)
            assert torch.equal(one.view(name).codes, other.view(name).codes)
    assert not threads()


def test_the_next_batch_is_made_while_one_is_held() -> None:
    """Three are made for one taken: it, the one that waits, and the one that has no room yet."""
    made, enough = [], threading.Event()

    def transform(raw: RawBatch) -> Batch:
        made.append(raw.step)
        if len(made) == 3:
            enough.set()
        view = View("image", torch.zeros(1), torch.zeros(1, 1).long())
        return Batch((view,), 0, raw.step)

    batches = Overlap(transform, CPU, background=True).batches(steps(9))
    assert next(batches).step == 0
    assert enough.wait(10)
    assert made == [0, 1, 2]
    batches.close()
    assert not threads()


@pytest.mark.parametrize("background", [True, False])
def test_an_error_comes_at_the_place_of_its_batch(background: bool) -> None:
    def broken() -> Iterator[RawBatch]:
        yield from steps(2)
        raise RuntimeError("the third is broken")

    batches = Overlap(DeviceTransform(GDT, DeviceOptions()), CPU, background=background).batches(
        broken()
    )
    assert [next(batches).step, next(batches).step] == [0, 1]
    with pytest.raises(RuntimeError, match="the third is broken"):
        next(batches)
    assert not threads()


def test_waiting_is_counted() -> None:
    tick = threading.Event()

    def slow() -> Iterator[RawBatch]:
        tick.wait(0.05)
        yield from steps(1)

    overlap = Overlap(DeviceTransform(GDT, DeviceOptions()), CPU, background=True)
    assert len(list(overlap.batches(slow()))) == 1
    assert overlap.waited_seconds > 0.04


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_on_a_gpu_a_step_that_still_runs_does_not_see_the_next_batch() -> None:
    """Batches are read by long products on the step's stream, while the next ones are made."""
    device = torch.device("cuda")
    transform = DeviceTransform(GDT, DeviceOptions())
    expected = [
        batch.view("video").values.double().sum().item()
        for batch in Overlap(transform, device, background=False).batches(steps(12))
    ]
    busy, sums = torch.randn(4096, 4096, device=device), []
    batches: Any = Overlap(transform, device).batches(steps(12))
    for batch in batches:
        for _ in range(8):
            busy = torch.tanh(busy @ busy)
        sums.append(batch.view("video").values.double().sum())
    assert [s.item() for s in sums] == expected
