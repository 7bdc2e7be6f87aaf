"""Run tasks in isolated worker processes; results come in order, and no task can end the build.

Each worker is a spawned process with its own pipe. A worker that dies or outlives the time limit
costs the task it had: that task's result is a `WorkerFailure`, and a new worker takes its place.
"""

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, Self, TypeVar

from shards.errors import BuildError, SourceError
from shards.media.memory_limit import bound_memory

Task = TypeVar("Task")
Result = TypeVar("Result")

TOOK_TOO_LONG = "took too long"
MEMORY_BYTES = 8 << 30  # that one task may add to its worker, where the system can bound it
CRASHED = "crashed its worker"
START_SECONDS = 120.0  # a worker that cannot even start in this time is given up


@dataclass(frozen=True)
class WorkerFailure:
    """What became of a task that gave no result; `error` names stage and cause."""

    error: SourceError


@dataclass
class _Slot(Generic[Task]):
    """A task on its way: done when `result` is set."""

    task: Task
    result: Any = None
    done: bool = False


class _Worker:
    """One process and the task it has, if any."""

    def __init__(self, function: Callable[..., Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False  # whether it has said that it is up; only then does a task's time run
        self.slot: _Slot[Any] | None = None
        self.deadline = 0.0

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class WorkerPool:
    """A fixed number of workers; close it, or use it as a context manager.

    Args:
        num_workers: processes, started when first needed.
        time_limit_seconds: a task that takes longer is ended and counted.
    """

    def __init__(self, num_workers: int, time_limit_seconds: float) -> None:
        self._num_workers = max(1, num_workers)
        self.time_limit_seconds = time_limit_seconds
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        while self._workers:
            self._workers.pop().stop()

    def map(
        self, function: Callable[..., Result], tasks: Iterable[Task], *arguments: object
    ) -> Iterator[tuple[Task, Result | WorkerFailure]]:
        """`function(task, *arguments)` for every task, in the tasks' order, a bounded number ahead.

        A `SourceError` that the function raises comes back as a `WorkerFailure` too; any other
        error is a bug and is raised here.

        Raises:
            BuildError: a worker cannot start.
        """
        window: deque[_Slot[Task]] = deque()
        waiting: deque[_Slot[Task]] = deque()
        source = iter(tasks)
        more = True
        while True:
            while more and len(window) < 4 * self._num_workers:
                try:
                    slot = _Slot(next(source))
                except StopIteration:
                    more = False
                    break
                window.append(slot)
                waiting.append(slot)
            self._hand_out(waiting, function, arguments)
            while window and window[0].done:
                slot = window.popleft()
                yield slot.task, slot.result
            if not window and not more:
                return
            if window and not window[0].done:
                self._collect()

    def _hand_out(
        self, waiting: deque[_Slot[Any]], function: Callable[..., Any], arguments: tuple[Any, ...]
    ) -> None:
        while waiting:
            idle = next((w for w in self._workers if w.slot is None), None)
            if idle is None:
                if len(self._workers) >= self._num_workers:
                    return
                idle = _Worker(function)
                self._workers.append(idle)
            idle.slot = waiting.popleft()
            limit = self.time_limit_seconds if idle.ready else START_SECONDS
            idle.deadline = time.monotonic() + limit
            with contextlib.suppress(OSError):  # a dead worker is found by _collect
                idle.pipe.send((function, idle.slot.task, arguments))

    def _collect(self) -> None:
        """Wait until a worker answers, dies or runs out of time, and record it."""
        busy = [w for w in self._workers if w.slot is not None]
        first = min(w.deadline for w in busy)
        ready = wait([w.pipe for w in busy], timeout=max(0.0, first - time.monotonic()))
        for worker in busy:
            if worker.pipe in ready:
                self._receive(worker)
            elif time.monotonic() >= worker.deadline:
                self._replace(worker, TOOK_TOO_LONG, f"limit {self.time_limit_seconds:g} s")

    def _receive(self, worker: _Worker) -> None:
        try:
            kind, value = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(5)
            code = worker.process.exitcode
            if not worker.ready and code is not None and code > 0:
                raise BuildError(
                    f"A worker process ended before its first task ({_exit_text(code)}); its own "
                    "error stands above. A script that builds needs `if __name__ == '__main__':` "
                    "around what it runs, because each worker imports it."
                ) from None
            self._replace(worker, CRASHED, _exit_text(code))
            return
        if kind == "ready":
            worker.ready = True
            worker.deadline = time.monotonic() + self.time_limit_seconds
            return
        assert worker.slot is not None
        if kind == "bug":
            raise RuntimeError(f"A worker failed on {worker.slot.task}:\n{value}")
        worker.slot.result = WorkerFailure(value) if kind == "skip" else value
        worker.slot.done = True
        worker.slot = None

    def _replace(self, worker: _Worker, cause: str, detail: str) -> None:
        assert worker.slot is not None
        worker.slot.result = WorkerFailure(SourceError("worker", cause, detail))
        worker.slot.done = True
        self._workers.remove(worker)
        worker.stop()


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit status {code}"


def _serve(pipe: Connection, _first: Callable[..., Any]) -> None:
    """A worker's life: take a task, answer, until the pipe closes.

    Being handed its first function, it has imported what that needs before it says it is up.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import traceback

    import av.logging

    av.logging.set_level(av.logging.PANIC)  # faults are counted and named, not printed
    with contextlib.suppress(OSError):
        pipe.send(("ready", None))
    while True:
        try:
            function, task, arguments = pipe.recv()
        except EOFError:
            return
        bound_memory(MEMORY_BYTES)
        try:
            answer = ("result", function(task, *arguments))
        except SourceError as error:
            answer = ("skip", error)
        except MemoryError:
            limit = f"limit {MEMORY_BYTES >> 30} GiB"
            answer = ("skip", SourceError("worker", "took too much memory", limit))
        except Exception:  # noqa: BLE001 - the parent raises it with this text
            answer = ("bug", traceback.format_exc())
        try:
            pipe.send(answer)
        except OSError:
            return
