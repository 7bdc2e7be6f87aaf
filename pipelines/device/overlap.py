"""Make batch n + 1 ready on the GPU while the training step of batch n runs.

    raw batches ─► pin ─► copy ─► DeviceTransform ─► event ─► the step's stream waits for it
    (decoded ahead)      a thread and a CUDA stream of their own

So neither the copy, nor the augmentation, nor the CPU time that starting them takes stands between
two steps. On a CPU there is nothing to overlap: the step and the transform want the same cores, so
there each batch is made when it is asked for.
"""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass

import torch

from gdt.batch import Batch
from pipelines.decoding.backends.gpu import current_gpu, use_device
from pipelines.loading.raw_batch import RawBatch

__all__ = ["Overlap"]

_POLL_SECONDS = 0.1  # how soon a thread that waits for room notices that nobody takes batches


@dataclass(frozen=True)
class _Ready:
    """A batch and the moment on its stream from which it can be read; or why there is none."""

    batch: Batch | None = None
    event: torch.cuda.Event | None = None
    error: BaseException | None = None


class Overlap:
    """Maker of batches on a device out of raw ones.

    Args:
        transform: from a raw batch whose pixels are on the device; an empty one has no modalities.
        device: where batches are wanted.
        background: prepare one batch ahead, on a thread; by default on a GPU only.

    Attributes:
        waited_seconds: how long batches were waited for, all together.
    """

    def __init__(
        self,
        transform: Callable[[RawBatch], Batch],
        device: torch.device,
        *,
        background: bool | None = None,
    ) -> None:
        self._transform = transform
        # by its number: to the thread that makes batches "cuda" would be GPU 0
        self._device = torch.device(current_gpu()) if device == torch.device("cuda") else device
        self._background = device.type == "cuda" if background is None else background
        self.waited_seconds = 0.0

    def batches(self, raw: Iterable[RawBatch]) -> Generator[Batch, None, None]:
        """The batches of `raw`, in order. Closing the iterator ends the thread.

        Raises:
            Exception: whatever `raw` or the transform raised, at the place of its batch.
        """
        make = self._made_ahead if self._background else self._made_when_asked
        with closing(make(raw)) as made:
            while True:
                started = time.perf_counter()
                batch = next(made, None)
                self.waited_seconds += time.perf_counter() - started
                if batch is None:
                    return
                yield batch

    def _made_when_asked(self, raw: Iterable[RawBatch]) -> Generator[Batch, None, None]:
        for one in raw:
            yield self._prepare(one)

    def _prepare(self, raw: RawBatch) -> Batch:
        if not len(raw):
            return Batch((), raw.epoch, raw.step)
        if self._device.type == "cuda":
            raw = raw.pin_memory()
        return self._transform(raw.to(self._device, non_blocking=True))

    def _made_ahead(self, raw: Iterable[RawBatch]) -> Generator[Batch, None, None]:
        ready: queue.Queue[_Ready] = queue.Queue(maxsize=1)
        stop = threading.Event()
        thread = threading.Thread(
            target=self._work, args=(raw, ready, stop), name="overlap", daemon=True
        )
        thread.start()
        try:
            while (made := ready.get()).batch is not None:
                if made.event is not None:
                    _hand_over(made.batch, made.event)
                yield made.batch
            if made.error is not None:
                raise made.error
        finally:
            stop.set()
            thread.join()

    def _work(
        self, raw: Iterable[RawBatch], ready: "queue.Queue[_Ready]", stop: threading.Event
    ) -> None:
        def put(made: _Ready) -> None:
            while not stop.is_set():
                with suppress(queue.Full):
                    ready.put(made, timeout=_POLL_SECONDS)
                    return

        try:
            use_device(str(self._device))
            stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
            with torch.cuda.stream(stream):
                for one in raw:
                    if stop.is_set():
                        return
                    batch = self._prepare(one)
                    put(_Ready(batch, None if stream is None else stream.record_event()))
            put(_Ready())
        except BaseException as error:  # noqa: BLE001 - raised by whoever takes the batches
            put(_Ready(error=error))


def _hand_over(batch: Batch, event: torch.cuda.Event) -> None:
    """Let this thread's stream wait for the batch, and its memory for this thread's stream."""
    stream = torch.cuda.current_stream()
    stream.wait_event(event)
    for view in batch.views:
        for tensor in (view.values, view.codes, view.boxes):
            if tensor is not None:
                tensor.record_stream(stream)
