"""A transcoder that one source brings down, for workers to import without importing the tests."""

import os
import signal

from shards import BuildOptions
from shards.building import ray_engine
from shards.building.jobs import BuiltShard, Layout, ShardJob
from shards.encoding.transcode import Unit, UnitResult, transcode

build_task = ray_engine._build


def crashing(unit: Unit, options: BuildOptions) -> UnitResult:
    """As the real one, but for crash.mp4."""
    if unit.source.name == "crash.mp4":
        os.kill(os.getpid(), signal.SIGSEGV)
    return transcode(unit, options)


def crashing_build_task(
    job: ShardJob, options: BuildOptions, layout: Layout, limit: float
) -> BuiltShard:
    """The Ray engine's task, on a node where that source does so."""
    vars(ray_engine)["transcode"] = crashing
    return build_task(job, options, layout, limit)
