"""A stream killed again and again, resumed with other threads and ranks, loses nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from shards import Dataset
from tests.pipelines.loading.stream_lives import Life, entries_of, rows_of, stream_of

ROOT = Path(__file__).parents[3]
RANKS = (1, 1, 1, 2, 1, 2)  # of one life after the other; 1 → 2 and 2 → 1 both happen
PATIENCE_SECONDS = 60  # for a life that hangs; nothing is measured


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.pipelines.loading.stream_lives"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin is not None
        process.stdin.close()


def start(server: subprocess.Popen[str], life: Life) -> list[int]:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(vars(life)) + "\n")
    server.stdin.flush()
    pids: list[int] = json.loads(server.stdout.readline())
    return pids


def num_lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(("num_kills", "is_mixed"), [(60, False), (12, True)])
def test_kills_lose_nothing_and_repeat_nothing(
    small_dataset: Dataset,
    server: subprocess.Popen[str],
    tmp_path: Path,
    num_kills: int,
    is_mixed: bool,
) -> None:
    rng = random.Random(7)
    journal = tmp_path / "journal"
    lives = []
    for number in range(num_kills):
        life = Life(
            shards=str(small_dataset.path),
            is_mixed=is_mixed,
            journal=str(journal),
            meeting=str(tmp_path / f"meeting-{number}"),
            num_ranks=RANKS[number % len(RANKS)],
            threads=1 + number % 3,
            prefetch=rng.randrange(4),
        )
        lives.append(life)
        wanted = num_lines(journal) + rng.randrange(1, 4)
        pids = start(server, life)
        patience = time.monotonic() + PATIENCE_SECONDS
        while num_lines(journal) < wanted:
            assert time.monotonic() < patience, f"life {number} does not get on: {life}"
            assert not any(map(gone, pids)), f"a rank of life {number} died by itself: {life}"
            time.sleep(0.002)
        time.sleep(rng.random() * 0.01)  # anywhere within a step
        rng.shuffle(pids)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        while not all(map(gone, pids)):
            time.sleep(0.001)
    entries = entries_of(journal)
    assert len(entries) >= num_kills
    unbroken = stream_of(lives[0], rank=0)
    batches = (batch for _ in range(len(entries)) for batch in unbroken)
    for entry, batch in zip(entries, islice(batches, len(entries)), strict=True):
        assert entry["rows"] == rows_of(batch)
    unbroken.close()
    if is_mixed:  # whose passes are held to be whole in test_mixture.py
        return
    per_epoch = len(unbroken) * 6 * 2
    rows = [tuple(row[:2]) for entry in entries for row in entry["rows"]]
    for first in range(0, len(rows) // per_epoch * per_epoch, per_epoch):
        assert len(set(rows[first : first + per_epoch])) == per_epoch
