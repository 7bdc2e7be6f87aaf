"""The data sets that `benchmarks.scale` makes up are data sets, and their size costs little."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scale import measure, write_data_set
from shards import Dataset, ShardError, ShardIndex


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scale")
    write_data_set(folder, num_samples=4000, num_shards=40, packets=4)
    return folder


@pytest.mark.parametrize("what", ["first batch", "resumed", "keys", "labels", "more"])
def test_it_measures_what_it_says(folder: Path, what: str) -> None:
    found = measure(folder, what)
    assert found["open"] > 0
    assert found["seconds"] > 0


def test_every_sample_is_its_own(folder: Path) -> None:
    data_set = Dataset.open(folder)
    assert len(data_set) == 4000
    for i in (0, 99, 100, 1234, 3999):
        sample = data_set.sample(i)
        assert sample.key == f"clip-{i:08d}"
        assert data_set.metadata(i) == {"label": f"{i % 400}", "number": i}
        assert sample.video is not None
        assert sample.audio is not None
        assert len(sample.video.packets) == len(sample.audio.packets) == 2
        assert sample.video.packets.offset[0] == sample.members["mp4"].offset
        assert data_set.find(sample.key) == i
    with pytest.raises(ShardError, match="no sample with the key 'clip-00004000'"):
        data_set.find("clip-00004000")


def test_links_are_data_sets_too(tmp_path: Path) -> None:
    write_data_set(tmp_path, num_samples=4000, num_shards=10, packets=20, linked=True)
    assert measure(tmp_path, "more")["seconds"] > 0


def test_an_open_index_holds_none_of_its_columns(tmp_path: Path) -> None:
    """15 MB of them; mapped, they would stay as rows are looked up."""
    write_data_set(tmp_path, num_samples=20_000, num_shards=1, packets=20)
    path = tmp_path / "shard-000000.tar.index"
    assert path.stat().st_size > 15 << 20
    index = ShardIndex(path, check=False)
    before = resident_bytes()
    for i in np.random.default_rng(0).integers(0, len(index), 2000).tolist():
        assert index.sample(i).key == f"clip-{i:08d}"
    assert resident_bytes() - before < 2 << 20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
