import json
import pickle
from pathlib import Path

import pytest

from pipelines.skips import SkipCounts, SkipError, SkipLog, TooManySkipsError, count_skips


def a_skip(key: str = "k") -> SkipError:
    return SkipError(shard="shard-000001.tar", key=key, stage="decode", cause="no frame 7 of 30")


def test_a_skip_names_shard_key_stage_and_cause() -> None:
    error = pickle.loads(pickle.dumps(a_skip("street-1")))
    assert str(error) == "shard-000001.tar: sample 'street-1': decode: no frame 7 of 30"
    assert (error.shard, error.key, error.stage) == ("shard-000001.tar", "street-1", "decode")


def test_skips_are_counted_and_written_down(tmp_path: Path) -> None:
    skip_log, skip_counts = SkipLog(tmp_path / "skips.jsonl"), SkipCounts()
    skip_log.deliver(skip_counts)
    skip_log.skip(skip_counts, a_skip(), epoch=2, step=5)
    skip_log.deliver(skip_counts)
    assert (skip_counts.delivered, skip_counts.skipped, skip_counts.total) == (2, 1, 3)
    assert skip_counts.skipped_in_a_row == 0
    assert skip_log.summary()["causes"] == {"decode": 1}
    entries = [json.loads(line) for line in (tmp_path / "skips.jsonl").read_text().splitlines()]
    assert entries == [
        {
            "epoch": 2,
            "step": 5,
            "shard": "shard-000001.tar",
            "key": "k",
            "stage": "decode",
            "cause": "no frame 7 of 30",
        }
    ]


def test_a_skip_that_a_resumed_run_meets_again_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "skips.jsonl"
    for steps in ((1, 2, 3), (2, 3, 4)):
        for step in steps:
            SkipLog(path).skip(SkipCounts(), a_skip(f"k{step}"), epoch=0, step=step)
    SkipLog(path).skip(SkipCounts(), a_skip("k1"), epoch=1, step=1)
    with path.open("a") as file:
        file.write('{"epoch": 1, "st')
    assert count_skips(path) == 5


def test_one_percent_is_enough_from_the_floor_on() -> None:
    skip_log, skip_counts = SkipLog(), SkipCounts()
    for i in range(50):  # 5 %, but below a thousand samples
        for _ in range(19):
            skip_log.deliver(skip_counts)
        if i < 49:
            skip_log.skip(skip_counts, a_skip(), epoch=0, step=i)
    with pytest.raises(TooManySkipsError, match=r"50 of 1000 samples were skipped, which is 5.0%"):
        skip_log.skip(skip_counts, a_skip(), epoch=0, step=50)


def test_exactly_one_percent_goes_on() -> None:
    skip_log, skip_counts = SkipLog(), SkipCounts()
    for _ in range(3):
        for _ in range(990):
            skip_log.deliver(skip_counts)
        for _ in range(10):
            skip_log.skip(skip_counts, a_skip(), epoch=0, step=0)
    assert skip_counts.total == 3000


def test_fifty_in_a_row_stop_the_run_and_say_where_to_look(tmp_path: Path) -> None:
    skip_log, skip_counts = SkipLog(tmp_path / "skips.jsonl"), SkipCounts()
    skip_log.deliver(skip_counts)
    for _ in range(49):
        skip_log.skip(skip_counts, a_skip(), epoch=0, step=0)
    with pytest.raises(TooManySkipsError) as caught:
        skip_log.skip(skip_counts, a_skip("last"), epoch=0, step=0)
    for text in ("50 samples in a row", "decode 50", "skips.jsonl", "'last'", "gdt shards verify"):
        assert text in str(caught.value)


def test_a_delivered_sample_ends_the_row() -> None:
    skip_log, skip_counts = SkipLog(), SkipCounts()
    for _ in range(4):
        for _ in range(49):
            skip_log.skip(skip_counts, a_skip(), epoch=0, step=0)
        skip_log.deliver(skip_counts)
    assert skip_counts.skipped == 196
