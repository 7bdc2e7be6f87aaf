"""Decode in worker processes: a decoder that crashes, hangs or eats memory costs one sample.

    a thread of the loader ── which sample, where in memory its rows are ──► its worker
                           ◄── key and start times, or why it was skipped ──

Frames do not travel: a batch lies in memory that the workers map too, and each writes its sample's
rows there. The memory is of files without a name, which the system takes back with the last process
that has them open: nothing is left in /dev/shm, however a run ends. A worker that dies, or takes
longer than its limit, is replaced, and its sample is a skip; workers end with their parent.

Workers are forked by a server process that has one thread and has the imports behind it, so a new
one costs some tens of milliseconds and no lock is copied half held.
"""

import fcntl
import mmap
import multiprocessing
import os
import pickle
import queue
import select
import signal
import threading
import traceback
from collections import Counter
from multiprocessing import reduction
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.decoding.faults import skip_of
from pipelines.decoding.segment_reader import SegmentReader
from pipelines.decoding.shared_memory import Place, SharedMemory, map_block
from pipelines.skips import SkipError
from shards.media.memory_limit import bound_memory

__all__ = ["Workers"]

MEMORY_BYTES: Final = 4 << 30  # that one sample may add to a worker
START_SECONDS: Final = 300.0  # imports on a busy machine; a worker not up by then never will be
_PRELOAD: Final = ["pipelines.decoding.segment_reader", "pipelines.decoding.backends.av"]


class _Task(NamedTuple):
    """One sample; `fresh` blocks (number, size) follow as open files, `gone` ones are let go.

    Messages are tuples of plain numbers: arrays and dataclasses take several times as long to send.
    """

    sample: int
    places: list[float]
    frames: Place | None
    audio: Place | None
    fresh: tuple[tuple[int, int], ...]
    gone: tuple[int, ...]


class Workers:
    """A fixed number of worker processes, each started when it is first needed.

    Args:
        reader: cuts the segments; every worker gets a copy.
        count: processes; `decode` may be called from as many threads.
        limit_seconds: a sample that takes longer is skipped.
        memory_bytes: so is one that takes more memory than this (on Linux).

    Raises:
        ValueError: the reader's decoder does not leave its frames in the CPU's memory.
    """

    def __init__(
        self,
        reader: SegmentReader,
        count: int,
        limit_seconds: float,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if reader.backend.device != "cpu":
            raise ValueError(
                f"data.isolate: decoder = {reader.decoder!r} leaves frames in a GPU's memory, and "
                "workers write to the CPU's: set segment.decoder = 'av', or isolate = false"
            )
        self._reader, self._limit, self._memory_bytes = reader, limit_seconds, memory_bytes
        self._memory = SharedMemory()
        self._lock = threading.Lock()
        self._closed = False
        self._running: set[_Worker] = set()
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(count):
            self._idle.put(None)

    def allocate(self, num_bytes: int) -> NDArray[np.uint8]:
        """Memory that workers can write to; freed when nobody refers to it."""
        return self._memory.allocate(num_bytes)

    def decode(
        self,
        index: int,
        places: NDArray[np.float64],
        frames: NDArray[np.uint8] | None,
        audio: NDArray[np.float32] | None,
    ) -> tuple[str, NDArray[np.float64]]:
        """See `SegmentReader.fill_sample`; the arrays must be of `allocate`.

        Raises:
            SkipError: the sample cannot be had, or it crashed its worker, or took too long.
            Exception: whatever else the worker raised.
        """
        worker = self._idle.get()
        try:
            if worker is None:
                worker = self._start()
            answer = worker.ask(
                index,
                places.tolist(),
                self._memory.place(frames),
                self._memory.place(audio),
                self._limit,
            )
        except _LostWorkerError as lost:
            self._drop(worker)
            worker = None
            sample = self._reader.dataset.sample(index)
            raise SkipError(
                shard=sample.shard, key=sample.key, stage="decode", cause=str(lost)
            ) from lost
        finally:
            self._idle.put(worker)
        kind, value, fallbacks = answer
        if fallbacks:
            with self._lock:
                self._reader.backend.fallbacks.update(fallbacks)
        if kind == "raised":
            raise value
        key, starts = value
        return key, np.array(starts)

    def kill(self) -> None:
        """End all workers at once; calls of `decode` return, and no new ones start a worker."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for worker in running:
            worker.process.kill()

    def close(self) -> None:
        """Let go of what is left of the workers, after `kill`, when nothing calls `decode`."""
        for worker in list(self._running):
            self._drop(worker)

    def _start(self) -> "_Worker":
        with self._lock:
            if self._closed:
                raise RuntimeError("the stream was closed while it decoded")
            worker = _Worker(self._reader, self._memory, self._memory_bytes)
            self._running.add(worker)
        try:
            worker.wait_until_ready()
        except BaseException:
            self._drop(worker)
            raise
        return worker

    def _drop(self, worker: "_Worker | None") -> None:
        if worker is not None:
            with self._lock:
                self._running.discard(worker)
            worker.stop()


class _LostWorkerError(Exception):
    """A worker died or was given up; says how."""


class _Worker:
    """One process, and what it knows of the shared memory."""

    def __init__(self, reader: SegmentReader, memory: "SharedMemory", memory_bytes: int) -> None:
        methods = multiprocessing.get_all_start_methods()
        context: Any = multiprocessing.get_context(
            "forkserver" if "forkserver" in methods else "spawn"
        )
        if "forkserver" in methods:
            context.set_forkserver_preload(_PRELOAD)
        self._memory, self._known = memory, set[int]()
        self._pipe, theirs = context.Pipe()
        self._answers = select.poll()
        self._answers.register(self._pipe.fileno(), select.POLLIN)
        self.process = context.Process(
            target=_serve, args=(theirs, reader, memory_bytes), daemon=True
        )
        self.process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Until it has imported and opened everything."""
        try:
            ready = self._pipe.poll(START_SECONDS) and self._pipe.recv()
        except (EOFError, OSError):
            ready = None
        if not ready:
            self.process.join(5)
            raise RuntimeError(
                f"a decoding worker did not start ({_ending(self.process.exitcode)}): a script "
                "that reads a stream with data.isolate needs `if __name__ == '__main__':` around "
                "what it runs"
            )

    def ask(
        self,
        index: int,
        places: list[float],
        frames: Place | None,
        audio: Place | None,
        limit_seconds: float,
    ) -> tuple[str, Any, dict[str, int]]:
        """("done" or "raised", the result or the error, what was decoded by another backend)."""
        used = {place.block for place in (frames, audio) if place is not None}
        files, gone = self._memory.changes(self._known, used)
        fresh = tuple((block, size) for block, (_, size) in files.items())
        try:
            self._pipe.send(_Task(index, places, frames, audio, fresh, gone))
            for file, _ in files.values():
                reduction.send_handle(self._pipe, file, self.process.pid)
            self._known = (self._known | set(files)) - set(gone)
            if not self._answers.poll(limit_seconds * 1000):
                raise _LostWorkerError(f"took longer than {limit_seconds:g} s")
            answer: tuple[str, Any, dict[str, int]] = self._pipe.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            how = _ending(self.process.exitcode)
            raise _LostWorkerError(f"crashed its worker: {how}") from error
        return answer

    def stop(self) -> None:
        """End it, if it has not ended."""
        self.process.kill()
        self.process.join()
        self._pipe.close()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit status {code}"


def _serve(pipe: Any, reader: SegmentReader, memory_bytes: int) -> None:
    """A worker's life: fill rows of shared memory, until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    _end_with_parent()
    torch.set_num_threads(1)
    blocks: dict[int, mmap.mmap] = {}
    seen: Counter[str] = Counter()

    def array(place: Place | None) -> NDArray[Any] | None:
        if place is None:
            return None
        return np.ndarray(place.shape, place.dtype, blocks[place.block], place.offset)

    try:
        pipe.send(True)
        while True:
            task: _Task = pipe.recv()
            for number in task.gone:
                del blocks[number]
            for number, size in task.fresh:
                file = reduction.recv_handle(pipe)
                blocks[number] = map_block(file, size)
            answer: tuple[str, Any]
            bound_memory(memory_bytes)
            try:
                key, starts = reader.fill_sample(
                    task.sample, np.array(task.places), array(task.frames), array(task.audio)
                )
                answer = "done", (key, starts.tolist())
            except MemoryError:
                cause = f"took more memory than {memory_bytes >> 20} MiB"
                answer = "raised", skip_of(reader.dataset.sample(task.sample), "decode", cause)
            except Exception as error:  # noqa: BLE001 - raised where it was asked for
                answer = "raised", _portable(error)
            fallbacks = Counter(reader.backend.fallbacks)
            pipe.send((*answer, dict(fallbacks - seen)))
            seen = fallbacks
    except (EOFError, OSError):
        return


def _portable(error: Exception) -> Exception:
    """The error itself if it can be sent, and else one that says the same."""
    if not isinstance(error, SkipError):
        error.add_note(
            "In a decoding worker:\n" + "".join(traceback.format_tb(error.__traceback__))
        )
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what this process has just written
    except Exception:  # noqa: BLE001 - whatever an error's constructor may want
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    """End as soon as the parent does, even out of a decoder that hangs and holds Python's lock.

    The parent holds the other end of the sentinel's pipe; when that closes, the system sends SIGIO,
    and a process that does not handle it ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(parent.sentinel, fcntl.F_GETFL)
    fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, flags | os.O_ASYNC)
