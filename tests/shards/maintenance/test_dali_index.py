"""Index files for DALI: the bytes that its own tool writes, and what its reader finds by them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shards import Dataset, ShardError, ShardIndex
from shards.maintenance.dali_index import dali_index, write_dali_indexes
from tests.shards.small import clip_members, write_data_set

dali = pytest.importorskip(
    "nvidia.dali", reason="needs NVIDIA DALI: pip install 'gdt-stream[dali]'"
)


def test_they_are_what_dalis_own_tool_writes(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "set/train")
    assert write_dali_indexes(tmp_path / "set") == [
        f"{folder}/shard-00000{n}.idx" for n in range(2)
    ]
    for tar in folder.glob("*.tar"):
        theirs = tmp_path / "theirs.idx"
        subprocess.run([sys.executable, "-m", "wds2idx", tar, theirs], check=True, timeout=60)
        assert tar.with_suffix(".idx").read_bytes() == theirs.read_bytes()


def test_dali_reads_a_shard_by_it(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "set", num_shards=1)
    (index,) = write_dali_indexes(folder)
    pipeline = dali.Pipeline(batch_size=3, num_threads=1, device_id=None)
    with pipeline:
        members = dali.fn.readers.webdataset(
            paths=[str(folder / "shard-000000.tar")],
            index_paths=[index],
            ext=["mp4", "flac", "json"],
            missing_component_behavior="error",
        )
        pipeline.set_outputs(*members)
    pipeline.build()
    outputs = pipeline.run()
    for number in range(3):
        for column, expected in zip(outputs, clip_members(number).values(), strict=True):
            assert np.asarray(column.at(number)).tobytes() == expected


def test_a_name_that_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "set", num_shards=1)
    data_set = Dataset.open(folder)
    data_set.sample(0)
    index = data_set._shard(0).index
    offset = index._places["key_bytes"].offset
    with index.path.open("r+b") as file:
        file.seek(offset + 3)
        file.write(b" ")
    index = ShardIndex(index.path)
    with pytest.raises(ShardError, match=r"sample 'cli -0000' has white space in a name"):
        dali_index(index)
