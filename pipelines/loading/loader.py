"""Decode ahead of the consumer on threads, and hand batches over in the order asked for.

Threads decode themselves, or hand their samples to worker processes (isolation.py). Each sample is
one task that writes into its own rows of the batch's arrays, so putting a batch together copies
nothing. A skipped sample leaves its place empty: the batch is smaller, nothing else moves. Any
other error stops the consumer, with a note that names the sample.

Legend: n samples of a batch, R rows of a sample (starts × speeds), T frames, S audio samples.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.decoding.backends.gpu import use_device
from pipelines.decoding.isolation import Workers
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.loading.batch_loader import (
    BatchLoader,
    Delivery,
    Filled,
    Outcome,
    Request,
    delivery_of,
)
from pipelines.loading.recycle import Recycler, allocate_pages
from pipelines.skips import SkipError

__all__ = ["Loader", "make_loader"]


@dataclass(frozen=True, eq=False)
class _Underway:
    request: Request
    frames: Any  # uint8 [n, R, T, H·W·3/2], array or tensor on the backend's device; or None
    audio: NDArray[np.float32] | None  # [n, R, S]
    tasks: list["Future[Filled]"]


def make_loader(
    reader: SegmentReader, threads: int, ahead: int, isolate_seconds: float | None = None
) -> BatchLoader:
    """The loader of the reader's decoder: one that decodes sample by sample, or whole batches.

    Args:
        reader: cuts the segments.
        threads: how many decode at a time.
        ahead: batches decoded in advance.
        isolate_seconds: decode in worker processes, and give a sample no longer than this.

    Raises:
        ValueError: the decoder cannot be isolated.
    """
    if reader.decoder == "dali" and reader.video:
        from pipelines.loading.dali_loader import DaliLoader

        if isolate_seconds is not None:
            raise ValueError(
                "data.isolate: decoder = 'dali' decodes whole batches in this process: set "
                "segment.decoder = 'av', or isolate = false"
            )
        return DaliLoader(reader, threads, ahead)
    workers = None if isolate_seconds is None else Workers(reader, threads, isolate_seconds)
    return Loader(reader, threads, ahead, workers)


class Loader:
    """Threads that decode, `ahead` batches beyond the one the consumer holds.

    Args:
        reader: cuts the segments.
        threads: how many decode at a time.
        ahead: batches decoded in advance; memory is (ahead + 1) batches of raw frames.
        workers: processes that decode what the threads hand them, as many; by default the threads
            decode.
    """

    def __init__(
        self, reader: SegmentReader, threads: int, ahead: int, workers: Workers | None = None
    ) -> None:
        self._reader, self._ahead = reader, ahead
        self._workers = workers
        self._decode = reader.fill_sample if workers is None else workers.decode
        device = reader.backend.device
        self._pool = ThreadPoolExecutor(threads, "decode", use_device, (device,))
        allocate = allocate_pages if workers is None else workers.allocate
        self._memory = Recycler(2 * (ahead + 2), allocate)
        # Memory that a GPU decoder writes into is of a stream of its own, so that what the
        # consumer's stream has yet to do with earlier batches need not be waited for.
        self._stream = None if device == "cpu" else torch.cuda.Stream(device)
        self._closed = False

    def deliveries(self, requests: Iterable[Request]) -> Iterator[Delivery]:
        """The batches of `requests`, in their order.

        Raises:
            Exception: whatever a task raised other than SkipError, with the sample named in a note.
            CancelledError: another thread closed the loader meanwhile.
        """
        underway: deque[_Underway] = deque()
        try:
            for request in requests:
                underway.append(self._start(request))
                if len(underway) > self._ahead:
                    yield self._finish(underway.popleft())
            while underway:
                yield self._finish(underway.popleft())
        finally:
            for batch in underway:
                for task in batch.tasks:
                    task.cancel()

    def close(self) -> None:
        """Let the threads go; tasks that have not begun are dropped."""
        self._closed = True
        if self._workers is not None:
            self._workers.kill()  # a thread may be waiting for one that hangs
        # nothing is cancelled: who waits for many tasks is not told of one that never begins
        self._pool.shutdown(wait=True)
        if self._workers is not None:
            self._workers.close()

    def _start(self, request: Request) -> _Underway:
        reader, options = self._reader, self._reader.options
        num_samples, num_starts = request.places.shape
        shape = (num_samples, num_starts * len(reader.speeds))
        frames = audio = None
        if reader.video:
            frames = self._empty((*shape, options.num_frames, reader.frame_bytes))
        if reader.audio:
            audio = self._memory.empty((*shape, options.num_samples), np.float32)
        tasks = [
            self._pool.submit(
                self._decode_unless_closed,
                request.caption_place(i),
                index,
                request.places[i],
                None if frames is None else frames[i],
                None if audio is None else audio[i],
            )
            for i, index in enumerate(request.samples.tolist())
        ]
        return _Underway(request, frames, audio, tasks)

    def _decode_unless_closed(self, caption_place: float, index: int, *task: Any) -> Filled:
        if self._closed:
            raise CancelledError("the loader was closed")
        captions = self._reader.captions(index, caption_place) if self._reader.text else None
        key, starts = self._decode(index, *task)
        return Filled(key, starts, captions)

    def _empty(self, shape: tuple[int, ...]) -> Any:
        if self._stream is None:
            return self._memory.empty(shape, np.uint8)
        with torch.cuda.stream(self._stream):
            return torch.empty(shape, dtype=torch.uint8, device=self._reader.backend.device)

    def _finish(self, underway: _Underway) -> Delivery:
        outcomes: list[Outcome] = []
        wait(underway.tasks)  # to wake once a batch, not once a sample, leaves Python to the tasks
        for task in underway.tasks:
            try:
                outcomes.append(task.result())
            except SkipError as error:
                outcomes.append(error)
        return self._collate(underway, outcomes)

    def _collate(self, underway: _Underway, outcomes: list[Outcome]) -> Delivery:
        request = underway.request
        kept = [i for i, outcome in enumerate(outcomes) if not isinstance(outcome, SkipError)]

        def rows(array: Any) -> torch.Tensor | None:
            if array is None:
                return None
            if isinstance(array, torch.Tensor):
                array.record_stream(torch.cuda.current_stream())
            whole = array if len(kept) == len(array) else array[kept]
            return torch.as_tensor(whole.reshape(len(kept) * array.shape[1], *array.shape[2:]))

        frames, audio = rows(underway.frames), rows(underway.audio)
        return delivery_of(self._reader, request, outcomes, frames, audio)
