"""Results of configs: which rows are run, in two steps of one seed, and how they are laid out."""

from pathlib import Path

import pytest

from benchmarks.results import CORPORA, ROWS, Row, chosen, make_corpus, setting_of, tables
from benchmarks.trials import Trial, run_trials
from models import METHODS
from shards import BuildOptions
from shards.building.build import build
from tools.runs.config_files import shipped_configs
from tools.sample_data.synthetic import SyntheticOptions, build_corpus

TINY = (
    "data.batch_size=2",
    "trainer.max_steps=2",
    "segment.num_frames=2",
    "video_augment.size=16",
    "method.hidden_dim=16",
    "method.embedding_dim=8",
)


def test_rows_are_taken_in_order_while_they_fit() -> None:
    rows = [Row("film", "a", 2), Row("film", "b", 5), Row("film", "c", 1)]
    taken, left = chosen(rows, minutes=10, seeds=3)
    assert [row.config for row in taken] == ["a", "c"]
    assert [row.config for row in left] == ["b"]


def test_rows_name_configs_that_come_along() -> None:
    assert {row.config for row in ROWS} <= set(shipped_configs())
    assert {row.corpus for row in ROWS} == set(CORPORA)
    assert {row.config for row in ROWS if row.columns} <= set(METHODS)


@pytest.mark.slow(seconds=6)
def test_a_row_is_run_and_what_is_not_is_listed_with_its_cost(tmp_path: Path) -> None:
    videos = SyntheticOptions(num_train=4, num_val=0, seconds=4, size=32)
    build_corpus(tmp_path / "videos", videos)
    for part in ("train", "val"):
        out = tmp_path / "shards" / "film" / part
        build([tmp_path / "videos" / "train"], out, BuildOptions(clip_seconds=4.0, short_side=32))
    make_corpus("film", tmp_path)  # is there already
    row, other = Row("film", "demo", 6), Row("synthetic", "synthetic", 4)
    setting = setting_of(row, tmp_path, TINY)
    (trial,) = run_trials([setting], [0], tmp_path / "runs", say=lambda line: None)["film-demo"]
    assert isinstance(trial, Trial), trial
    text = tables({row: [trial]}, [other], {"synthetic": "no room"}, seeds=3)
    lines = text.splitlines()
    assert lines[0] == "## " + CORPORA["film"].title
    cells = lines[4].split(" | ")
    assert cells[0] == "| demo"
    assert cells[9] == cells[12] == "100.0"  # chance of R@10 among four clips
    assert cells[13] == "2"
    assert "| synthetic | synthetic | 12 | `gdt pretrain synthetic --set" in text
    assert lines[-1] == "synthetic was not made: no room"
