"""The line about time shifts that overlap: when, and with which figures."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gdt import Plan
from pipelines.loading.stream import Stream
from tools.training.overlap_warning import overlap_warning


def warning(share: float, relation: str = "distinctive", **shifts: Any) -> str | None:
    tables = {
        "sample": {"relation": "distinctive"},
        "time_shift": {"relation": relation, "draws": 2} | shifts,
        "modality": {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"},
    }
    stream = SimpleNamespace(
        plan=Plan.from_tables(tables),
        segment_options=SimpleNamespace(window_seconds=1.5),
        overlapping_share=share,
    )
    return overlap_warning(cast("Stream", stream))


def test_shifts_that_are_told_apart_and_overlap_much_are_warned_of() -> None:
    line = warning(5 / 9)
    assert line is not None
    assert "56% overlap" in line
    assert "plan.time_shift.min_seconds_apart = 1.5 keeps them apart, in clips of 3 s" in line
    own = warning(5 / 9, "invariant", contrast=[[1, 0.5], [0.5, 1]])
    assert own is None, "no pair of shifts counts as wholly different"


@pytest.mark.parametrize(("share", "relation"), [(0.21, "distinctive"), (1.0, "invariant")])
def test_what_overlaps_little_or_should_is_not(share: float, relation: str) -> None:
    assert warning(share, relation) is None
