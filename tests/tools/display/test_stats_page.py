"""The picture of a data set: a panel for each thing there is to show, and no empty one."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from shards.maintenance.stats import Stats
from tools.display.stats_page import draw_stats


def drawn(found: Stats, monkeypatch: pytest.MonkeyPatch) -> Figure:
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_args, **_kwargs: figures.append(self))
    draw_stats(found, Path("never-written.png"))
    return figures[0]


def one_clip() -> Stats:
    found = Stats("set", samples=1)
    found.clip_seconds, found.clip_bytes = np.ones(1), np.ones(1, np.int64)
    return found


def test_what_is_counted_has_whole_numbers_on_its_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    found = one_clip()
    found.labels = Counter({"dog": 1})
    lengths, rates, labels = drawn(found, monkeypatch).axes
    for axis in (lengths.yaxis, rates.yaxis, labels.xaxis):
        assert all(float(tick).is_integer() for tick in axis.get_majorticklocs())


def test_there_is_no_panel_without_anything_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = one_clip()
    assert [axes.get_xlabel() for axes in drawn(found, monkeypatch).axes] == [
        "clip duration (s)",
        "kB per second of a clip",
    ]
    found.skipped_clips = Counter({"silent": 2})
    assert drawn(found, monkeypatch).axes[-1].get_xlabel() == "left out: sources and clips; 1 cause"


def test_more_labels_than_there_is_room_for_are_the_most_frequent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = one_clip()
    found.labels = Counter({f"label {n}": n for n in range(1, 31)})
    labels = drawn(found, monkeypatch).axes[-1]
    names = [text.get_text() for text in labels.get_yticklabels()]
    assert names == [f"label {n}" for n in range(11, 31)]
    assert labels.get_xlabel() == "clips; the 20 most of 30 labels"
