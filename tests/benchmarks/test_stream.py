import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from benchmarks.stream import Figures, _offset_ms, _window, cpu_seconds, goals, table
from benchmarks.stream_ways import RATE, Clips, Way


def test_the_offset_of_a_sound_is_found() -> None:
    whole = np.random.default_rng(0).normal(size=3 * RATE).astype(np.float32)
    margin = RATE // 10
    around = whole[RATE - margin : 2 * RATE + margin]
    for samples in (0, 24, -36):
        sound = whole[RATE + samples : 2 * RATE + samples]
        assert _offset_ms(sound, around) == pytest.approx(abs(samples) / 24, abs=1e-3)


def test_cpu_time_counts_workers_that_have_ended_and_those_that_have_not() -> None:
    busy = "import time, sys\nwhile time.process_time() < 0.5: pass\nprint(1, flush=True)"
    before = cpu_seconds()
    subprocess.run([sys.executable, "-c", busy], check=True, stdout=subprocess.DEVNULL)
    ended = cpu_seconds() - before
    assert 0.45 < ended < 5
    wait = [sys.executable, "-c", busy + "\nsys.stdin.read()"]
    with subprocess.Popen(wait, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        assert cpu_seconds() - before > ended + 0.45
    assert os.getpid() != worker.pid


def test_a_window_begins_after_the_warm_up() -> None:
    batches = iter([1000, 1000, *[3] * 10_000_000])
    _, rate = _window(batches, 0.01)
    first = next(batches)
    assert first == 3
    assert rate > 0


def test_every_worker_count_gets_the_same_segments() -> None:
    clips = Clips(7, lambda index, start: (index, start))
    asked: list[tuple[Any, ...]] = [clips[n] for n in range(50)]
    assert asked == [clips[n] for n in range(50)]
    assert {index for index, _, _ in asked} == set(range(7))
    assert all(0 <= start <= 9 for _, start, _ in asked)


def test_the_table_compares_with_ours() -> None:
    ways = [Way(name, lambda _: None, lambda *_: None) for name in ("ours", "torchcodec x")]  # type: ignore[arg-type, return-value]
    figures = [{1: Figures(2.0, 400.0)}, {1: Figures(7.0, 100.0)}]
    lines = table(ways, figures, [(200.0, 0.0), (44.04, 1.5)], [1])
    assert lines[2] == "| ours | 2.00 | 1.0 | 400 | equal | 0.00 ms |"
    assert lines[3] == "| torchcodec x | 7.00 | 3.5 | 100 | 44.0 dB | 1.50 ms |"
    assert goals(ways, figures) == ["- ours beside torchcodec x: 4.0 × with 1 (goal: 3 ×)"]
