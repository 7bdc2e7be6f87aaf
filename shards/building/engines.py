"""Who does a build's work: an engine runs functions on many tasks, and shard jobs, in isolation.

`LocalEngine` is one pool of worker processes on this machine; ray_engine.py has many machines.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from types import TracebackType
from typing import Protocol, Self, TypeVar

from shards.building.jobs import BuiltShard, Layout, ShardJob, write_shard
from shards.building.worker_pool import WorkerFailure, WorkerPool
from shards.encoding.transcode import Unit, transcode
from shards.options import BuildOptions

Task = TypeVar("Task")
Result = TypeVar("Result")

_UPLOADS = 2  # shards at a time; as many wait on the disk


class Engine(Protocol):
    """Do the work of a build; used as a context manager, which ends what it started."""

    @property
    def time_limit_seconds(self) -> float:
        """A task that takes longer is given up."""

    def __enter__(self) -> Self:
        """Start."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        """End all workers."""

    def map(
        self, function: Callable[..., Result], tasks: Iterable[Task], *arguments: object
    ) -> Iterator[tuple[Task, Result | WorkerFailure]]:
        """`function(task, *arguments)` for every task, in order; see `WorkerPool.map`."""

    def build(
        self,
        jobs: Iterable[ShardJob],
        options: BuildOptions,
        layout: Layout,
        advance: Callable[[int], None],
    ) -> Generator[BuiltShard]:
        """Do every job; what is made comes in whatever order it is finished.

        `advance` is told how many more clips are done with.
        """


class LocalEngine(WorkerPool):
    """Worker processes on this machine, which are never idle between shards.

    The units of several shards are in the pool at a time. Their results come in order, so one shard
    after the other is written here, while the workers go on.
    """

    def build(
        self,
        jobs: Iterable[ShardJob],
        options: BuildOptions,
        layout: Layout,
        advance: Callable[[int], None],
    ) -> Generator[BuiltShard]:
        """See `Engine.build`; shards come in the jobs' order."""
        built = self._written(jobs, options, layout, advance)
        return built if layout.remote is None else _uploaded(built, layout)

    def _written(
        self,
        jobs: Iterable[ShardJob],
        options: BuildOptions,
        layout: Layout,
        advance: Callable[[int], None],
    ) -> Generator[BuiltShard]:
        handed_out: deque[ShardJob] = deque()

        def units() -> Iterator[Unit]:
            for job in jobs:
                handed_out.append(job)
                yield from job.units

        results = self.map(transcode, units(), options)
        for first in results:
            job = handed_out.popleft()
            own = chain([first], islice(results, len(job.units) - 1))
            yield write_shard(job, _counted(own, advance), layout.folder(job.part))


def _uploaded(built: Iterable[BuiltShard], layout: Layout) -> Generator[BuiltShard]:
    """The same shards, each when it has arrived; they are uploaded while others are built."""
    pending: deque[Future[BuiltShard]] = deque()
    uploads = ThreadPoolExecutor(_UPLOADS, "upload")
    try:
        for shard in built:
            pending.append(uploads.submit(layout.take, shard, layout.folder(shard.job.part)))
            while pending and (pending[0].done() or len(pending) > _UPLOADS):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        uploads.shutdown(cancel_futures=True)


def _counted(
    results: Iterable[tuple[Unit, Result]], advance: Callable[[int], None]
) -> Iterator[Result]:
    for unit, result in results:
        yield result
        advance(unit.num_clips)
