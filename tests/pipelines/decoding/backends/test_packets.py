"""Which packets are fed: small tables that can be checked by eye."""

import numpy as np
import pytest

from pipelines.decoding.backends.backend import MediaError
from pipelines.decoding.backends.packets import Run, runs_of
from shards import Packets


def packets_of(pts: list[int], keyframes: list[int], sizes: list[int] | None = None) -> Packets:
    count = len(pts)
    size = np.array(sizes or [10] * count, np.uint32)
    offset = np.concatenate([[0], np.cumsum(size)[:-1]]).astype(np.uint64)
    return Packets(
        offset=offset,
        size=size,
        pts=np.array(pts),
        duration=np.ones(count, np.int64),
        keyframe=np.isin(np.arange(count), keyframes),
        crc32=np.zeros(count, np.uint32),
        discard=np.zeros(count, bool),
    )


def test_a_run_begins_at_its_keyframe_and_ends_with_its_last_wanted_frame() -> None:
    packets = packets_of(list(range(20)), [0, 5, 10, 15])
    assert runs_of(packets, np.array([7, 6])) == [Run(5, 8, (6, 7))]
    assert runs_of(packets, np.array([10])) == [Run(10, 11, (10,))]
    # the group in between is skipped; groups that touch are fed through
    assert runs_of(packets, np.array([2, 11, 11])) == [Run(0, 3, (2,)), Run(10, 12, (11,))]
    assert runs_of(packets, np.array([4, 6])) == [Run(0, 7, (4, 6))]
    assert runs_of(packets, np.array([3, 6])) == [Run(0, 4, (3,)), Run(5, 7, (6,))]


def test_frames_shown_before_their_keyframe_need_the_group_before() -> None:
    # open groups, in file order: I0 P3 B1 B2 | I6 B4 B5 P9 B7 B8
    packets = packets_of([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], [0, 4])
    assert runs_of(packets, np.array([4])) == [Run(4, 5, (4,))]
    assert runs_of(packets, np.array([5])) == [Run(0, 6, (5,))]
    assert runs_of(packets, np.array([4, 5])) == [Run(0, 6, (4, 5))]
    assert runs_of(packets, np.array([4, 8])) == [Run(4, 9, (4, 8))]


def test_no_keyframe_is_a_fault_of_the_index() -> None:
    with pytest.raises(MediaError, match="index: no keyframe comes before packet 1 of 3"):
        runs_of(packets_of([0, 1, 2], [2]), np.array([1, 2]))
