import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards import SourceError
from shards.building.worker_pool import WorkerFailure, WorkerPool


def work(task: str, factor: int) -> str:
    """What a worker may meet, by name."""
    kind, _, number = task.partition(" ")
    if kind == "sleep":
        time.sleep(float(number))
    elif kind == "hang":
        time.sleep(60)
    elif kind == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif kind == "exit":
        os._exit(3)
    elif kind == "eat":
        bytearray(int(number) << 30)
    elif kind == "skip":
        raise SourceError("decode", "this one is bad", number)
    elif kind == "bug":
        raise ValueError("a bug in the code")
    return f"{task} {os.getpid()}" if kind == "pid" else f"{task} × {factor}"


def test_results_come_in_order_with_any_number_of_workers() -> None:
    tasks = [f"sleep {0.2 if n == 0 else 0}" for n in range(9)] + ["last 1"]
    for workers in (1, 3):
        with WorkerPool(workers, 30) as pool:
            results = list(pool.map(work, tasks, 7))
        assert [task for task, _ in results] == tasks
        assert [result for _, result in results] == [f"{task} × 7" for task in tasks]


def test_a_task_that_crashes_exits_or_hangs_costs_itself_alone() -> None:
    tasks = ["fine 1", "crash 1", "fine 2", "exit 1", "hang 1", "skip 42", "fine 3"]
    with WorkerPool(2, 4) as pool:
        results = dict(pool.map(work, tasks, 1))
    causes = {t: str(r.error) for t, r in results.items() if isinstance(r, WorkerFailure)}
    assert causes == {
        "crash 1": "worker: crashed its worker (ended by SIGSEGV)",
        "exit 1": "worker: crashed its worker (exit status 3)",
        "hang 1": "worker: took too long (limit 4 s)",
        "skip 42": "decode: this one is bad (42)",
    }
    assert [results[f"fine {n}"] for n in (1, 2, 3)] == [f"fine {n} × 1" for n in (1, 2, 3)]


def test_a_script_that_its_workers_run_again_is_told_so(tmp_path: Path) -> None:
    """Without `if __name__ == "__main__":` a worker would begin with a build of its own."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_text("a text")
    script = tmp_path / "script.py"
    script.write_text(
        "from shards import BuildOptions\n"
        "from shards.building.build import build\n"
        "build(['videos'], 'out', BuildOptions(), num_workers=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "ended before its first task (exit status 1)" in last
    assert "A script that builds needs `if __name__ == '__main__':`" in last
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="address space is bounded on Linux")
def test_a_task_that_takes_too_much_memory_costs_itself_alone() -> None:
    with WorkerPool(1, 30) as pool:
        results = dict(pool.map(work, ["fine 1", "eat 9", "fine 2"], 1))
    assert str(results["eat 9"].error) == "worker: took too much memory (limit 8 GiB)"  # type: ignore[union-attr]
    assert [results[f"fine {n}"] for n in (1, 2)] == [f"fine {n} × 1" for n in (1, 2)]


def test_a_bug_is_not_hidden() -> None:
    with (
        WorkerPool(1, 30) as pool,
        pytest.raises(RuntimeError, match=r"failed on bug 1(.|\n)*ValueError: a bug in the code"),
    ):
        list(pool.map(work, ["bug 1"], 1))


def test_tasks_are_taken_only_a_little_ahead() -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield f"task {taken}"

    with WorkerPool(1, 30) as pool:
        results = pool.map(work, endless(), 1)
        for _ in range(5):
            next(results)
        assert taken <= 5 + 4 + 1


def test_no_worker_is_left_behind() -> None:
    with WorkerPool(2, 30) as pool:
        answers = list(pool.map(work, ["pid 1", "pid 2"], 1))
    for _, answer in answers:
        assert isinstance(answer, str)
        with pytest.raises(ProcessLookupError):
            os.kill(int(answer.split()[-1]), 0)
