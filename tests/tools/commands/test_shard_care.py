"""What `gdt shards inspect` picks to draw, and what it calls it."""

import numpy as np

from tools.commands.shard_care import in_source, some_of
from tools.display.contact_sheet import ContactRow


def test_some_of_many_clips_follow_no_period() -> None:
    """Of labels that repeat in turn, evenly spaced clips would show one and the same."""
    chosen = some_of(60, 6)
    assert chosen == sorted(set(chosen)) == some_of(60, 6)
    assert chosen[0] >= 0
    assert chosen[-1] < 60
    assert len({number % 10 for number in chosen}) > 3
    assert some_of(3, 6) == [0, 1, 2]


def test_a_row_is_called_by_its_source_and_the_time_in_it() -> None:
    row = ContactRow("key", 1.5, 2.5, log_mel=np.zeros((2, 2)))
    named = in_source(row, {"source": "talks/one.mp4", "start_seconds": 61.0})
    assert (named.name, named.start_seconds, named.stop_seconds) == (
        "talks/one.mp4 at 1:02.5",
        62.5,
        63.5,
    )
    assert in_source(row, {"label": "dog"}) is row
