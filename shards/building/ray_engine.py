"""Build on many machines: shard jobs as Ray tasks. The only file that imports ray.

A task on a node gives its work to an isolated process beside it (see worker_pool.py), so a source
that crashes or hangs its decoder costs itself and not the task. A shard is written where it belongs
by the node that makes it; back come its entry and report lines, a few kilobytes. Tasks that Ray
loses with their node are done again, to the same bytes.
"""

import os
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from shards.building.jobs import BuiltShard, Layout, ShardJob, write_shard
from shards.building.worker_pool import WorkerFailure, WorkerPool
from shards.encoding.transcode import transcode
from shards.errors import BuildError
from shards.options import BuildOptions

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_IN_BATCH = 16  # of `map`: probing a source takes a few milliseconds
_OBJECT_STORE_BYTES = 128 << 20  # of a Ray that is started here; results are small


class RayEngine:
    """Ray tasks, a bounded number at a time. Nodes need this package and see the same files.

    Args:
        address: of a cluster ("auto", "host:port", "ray://…"); None starts Ray on this machine, for
            as long as the engine is open, without dashboard and usage reports.
        num_workers: tasks at a time; by default one for each core.
        time_limit_seconds: as for `WorkerPool`.

    Raises:
        BuildError: Ray is not installed, or does not answer at this address.
    """

    def __init__(
        self,
        address: str | None = None,
        num_workers: int | None = None,
        time_limit_seconds: float = 600.0,
    ) -> None:
        self._address, self._num_workers = address, num_workers
        self.time_limit_seconds = time_limit_seconds
        self._connections: list[bool] = []  # one an entry, of entries in each other: made by it?

    def __enter__(self) -> Self:
        try:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            import ray
        except ImportError as error:
            raise BuildError(
                f"--engine ray needs ray ({error}): pip install 'gdt-stream[ray]'."
            ) from error
        self._ray: Any = ray
        if ray.is_initialized():
            self._connections.append(False)
            return self
        options: dict[str, Any] = {"address": self._address, "log_to_driver": False}
        options |= {"logging_level": "warning"}
        if self._address is None:
            cores = self._num_workers or len(os.sched_getaffinity(0))
            options |= {"address": "local", "num_cpus": cores, "include_dashboard": False}
            options |= {"object_store_memory": _OBJECT_STORE_BYTES}
        try:
            _knock(self._address)
            ray.init(**options)
        except (OSError, ValueError, RuntimeError) as error:
            raise BuildError(
                f"Ray at {self._address or 'this machine'} cannot be reached: {error}. Check "
                "--address, or leave it out to start Ray here."
            ) from error
        self._connections.append(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._connections.pop():
            self._ray.shutdown()

    def map(
        self, function: Callable[..., Result], tasks: Iterable[Task], *arguments: object
    ) -> Iterator[tuple[Task, Result | WorkerFailure]]:
        """See `Engine.map`."""
        remote = self._ray.remote(num_cpus=1)(_map)
        pending: deque[tuple[tuple[Task, ...], Any]] = deque()
        for batch in _batches(tasks, _TASKS_IN_BATCH):
            pending.append(
                (batch, remote.remote(function, batch, arguments, self.time_limit_seconds))
            )
            if len(pending) >= self._tasks_at_a_time():
                batch, reference = pending.popleft()
                yield from zip(batch, self._result(reference), strict=True)
        for batch, reference in pending:
            yield from zip(batch, self._result(reference), strict=True)

    def build(
        self,
        jobs: Iterable[ShardJob],
        options: BuildOptions,
        layout: Layout,
        advance: Callable[[int], None],
    ) -> Generator[BuiltShard]:
        """See `Engine.build`; shards come as they are finished."""
        remote = self._ray.remote(num_cpus=1)(_build)
        layout = replace(layout, path=layout.path.absolute())  # nodes work in other folders
        pending: list[Any] = []
        try:
            for job in jobs:
                pending.append(remote.remote(job, options, layout, self.time_limit_seconds))
                if len(pending) >= self._tasks_at_a_time():
                    yield self._first(pending, advance)
            while pending:
                yield self._first(pending, advance)
        finally:
            for reference in pending:
                self._ray.cancel(reference, force=True)

    def _tasks_at_a_time(self) -> int:
        """A few more than can run, so that no core waits; a cluster may grow."""
        cores = self._num_workers or int(self._ray.cluster_resources().get("CPU", 1))
        return cores + max(1, cores // 4)

    def _first(self, pending: list[Any], advance: Callable[[int], None]) -> BuiltShard:
        (done, *_), pending[:] = self._ray.wait(pending, num_returns=1)
        built: BuiltShard = self._result(done)
        advance(built.job.num_clips)
        return built

    def _result(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, BuildError | OSError):
                raise error.cause from error
            raise
        except errors.RayError as error:
            raise BuildError(
                f"Ray lost a task and gave it up ({type(error).__name__}: {error}). Finished "
                "shards are kept: run the same command again."
            ) from error


def _knock(address: str | None) -> None:
    """See that somebody listens at host:port: Ray itself would try for minutes."""
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=20).close()


def _batches(tasks: Iterable[Task], size: int) -> Iterator[tuple[Task, ...]]:
    source = iter(tasks)
    while batch := tuple(islice(source, size)):
        yield batch


_pool: WorkerPool | None = None  # of this Ray worker; it outlives a task, to spare the next a start


def _isolated(time_limit_seconds: float) -> WorkerPool:
    global _pool
    if _pool is None or _pool.time_limit_seconds != time_limit_seconds:
        # without it, spawned processes do not import the program of Ray's worker, which is slow
        vars(sys.modules["__main__"]).pop("__file__", None)
        _pool = WorkerPool(1, time_limit_seconds)
    return _pool


def _map(
    function: Callable[..., Any],
    tasks: tuple[Any, ...],
    arguments: tuple[object, ...],
    time_limit_seconds: float,
) -> list[Any]:
    pool = _isolated(time_limit_seconds)
    return [result for _, result in pool.map(function, tasks, *arguments)]


def _build(
    job: ShardJob, options: BuildOptions, layout: Layout, time_limit_seconds: float
) -> BuiltShard:
    folder = layout.folder(job.part) if layout.remote is None else None
    if folder is not None and not folder.is_dir():
        raise BuildError(
            f"Node {os.uname().nodename} of the Ray cluster does not see {folder}: name a --out "
            "that all nodes share, or a URL."
        )
    units = _isolated(time_limit_seconds).map(transcode, job.units, options)
    # Ray may do a task twice, where it has lost sight of a node: each in a folder of its own
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as own:
        built = write_shard(job, (result for _, result in units), Path(own))
        return layout.take(built, Path(own))
