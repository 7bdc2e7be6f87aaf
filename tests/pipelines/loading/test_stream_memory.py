"""A run of a million segments must not need more memory than one of a thousand."""

import gc
import os
from pathlib import Path

import pytest

from benchmarks.textured_shards import write_textured_shards
from gdt.named_plans import named_plan
from pipelines.decoding.segment import SegmentOptions
from pipelines.loading.stream import Stream, StreamOptions

WARM_UP, SEGMENTS = 2_000, 20_000


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells memory there")
def test_memory_is_flat_over_20_000_segments(tmp_path: Path) -> None:
    """Every segment kept alive would be 4.6 kB, its packets' tables more: 85 MB and up."""
    dataset = write_textured_shards(tmp_path, 20, short_side=32, seconds=1.0)
    options = SegmentOptions(seconds=0.2, num_frames=2)
    stream = Stream(dataset, named_plan("v_shift"), options, StreamOptions(batch_size=20), seed=0)
    seen, after_warm_up = 0, 0
    while seen < SEGMENTS:
        for batch in stream:
            seen += len(batch)
        if seen >= WARM_UP and not after_warm_up:
            after_warm_up = resident_bytes()
    growth = resident_bytes() - after_warm_up
    stream.close()
    assert growth < 10e6
