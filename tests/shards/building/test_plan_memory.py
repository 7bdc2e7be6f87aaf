"""Memory does not grow with the number of sources, but for the few bytes that find twins."""

import gc
import sys
import tracemalloc
from pathlib import Path

from benchmarks.plan_memory import plan_and_report
from shards.sources.labels import Labels
from shards.sources.source import Source
from shards.storage.opening import Location


def most_blocks(num_rows: int, folder: Path) -> int:
    """The most blocks of Python's memory that are held during a build."""
    most = 0

    def look(stage: str, done: int, _total: int | None) -> None:
        nonlocal most
        if stage == "build" or done % 100 == 0:
            gc.collect()
            most = max(most, sys.getallocatedblocks())

    folder.mkdir()
    gc.freeze()  # what other tests have left is not gone through each time
    try:
        plan_and_report(num_rows, folder, look)
    finally:
        gc.unfreeze()
    return most


def test_a_build_holds_no_source(tmp_path: Path) -> None:
    """One that is held takes ten blocks or more; an array of hashes is one block for all."""
    few, many = (most_blocks(rows, tmp_path / f"{rows}") for rows in (600, 2600))
    assert (many - few) / 2000 < 0.5


def test_labels_are_not_held(tmp_path: Path) -> None:
    table, num_rows = tmp_path / "labels.csv", 5_000
    with table.open("w") as file:
        file.write("file,label,more\n")
        file.writelines(f"{n}.mp4,{n % 7},text about {n}\n" for n in range(num_rows))
    tracemalloc.start()
    try:
        labels = Labels(table)
        for n in range(0, num_rows, 7):
            row = labels.of(Source(f"{n}.mp4", Location(f"/x/{n}.mp4")))
            assert row == {"label": "0", "metadata": {"more": f"text about {n}"}}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * num_rows
    assert labels.of(Source("none.mp4", Location("/x/none.mp4"))) == {}
    number, first = labels.without_source()
    assert (number, first[:2]) == (num_rows - len(range(0, num_rows, 7)), ["1.mp4", "10.mp4"])
