"""Files that change, or are none, while a data set is read: one message, no hang and no crash."""

import os
import shutil
from pathlib import Path

import pytest

from shards import Dataset, IndexFormatError, ShardError
from tests.shards.small import write_data_set

TAR, INDEX = "shard-000000.tar", "shard-000000.tar.index"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_data_set(tmp_path / "set")


@pytest.mark.parametrize("size", [0, 4096])
def test_an_index_cut_short_while_it_is_open_is_an_error(folder: Path, size: int) -> None:
    """Its rows are read as they are asked for, long after it was checked."""
    dataset = Dataset.open(folder)
    video = dataset.sample(0).video
    assert video is not None
    checksums = video.packets.crc32.tolist()
    os.truncate(folder / INDEX, size)
    told = rf"{INDEX} had \d+ bytes when it was opened and has {size} now"
    with pytest.raises(IndexFormatError, match=told):
        dataset.sample(1)
    with pytest.raises(IndexFormatError, match=rf"Index .*{INDEX} is damaged"):
        dataset.find("clip-0002")
    assert video.packets.crc32.tolist() == checksums  # what was handed out stays whole


def test_an_index_that_is_written_to_while_it_is_open_is_an_error(folder: Path) -> None:
    dataset = Dataset.open(folder)
    dataset.sample(0)
    data = (folder / INDEX).read_bytes()
    with (folder / INDEX).open("r+b") as file:
        file.seek(len(data) - 100)
        file.write(bytes(100))
    with pytest.raises(IndexFormatError, match="cut it short or wrote to it"):
        dataset.sample(1)


def test_a_key_is_found_only_in_an_index_that_is_the_manifests(folder: Path) -> None:
    """Looking for it reads keys alone, of which one that was changed may be the one."""
    data = (folder / INDEX).read_bytes()
    (folder / INDEX).write_bytes(data.replace(b"clip-0001", b"clip-9999"))
    with pytest.raises(IndexFormatError, match="is not the one that the manifest lists"):
        Dataset.open(folder).find("clip-9999")
    with pytest.raises(IndexFormatError, match="is not the one that the manifest lists"):
        Dataset.open(folder).find("clip-0001")
    assert Dataset.open(folder).find("clip-0005") == 5


def test_a_tar_cut_short_while_it_is_open_is_an_error(folder: Path) -> None:
    dataset = Dataset.open(folder)
    sample = dataset.sample(0)
    os.truncate(folder / TAR, 600)
    with pytest.raises(ShardError, match="ends before byte"):
        dataset.read_member(sample, "mp4")


@pytest.mark.parametrize("name", [TAR, INDEX])
@pytest.mark.parametrize("change", ["replaced", "written to"])
def test_a_shard_that_changed_while_it_was_closed_is_refused(
    folder: Path, name: str, change: str
) -> None:
    dataset = Dataset.open(folder, max_open_shards=1)
    dataset.sample(0)
    dataset.sample(5)  # closes the first shard
    dataset.sample(0)  # which opens again, as it is the same
    dataset.sample(5)
    path = folder / name
    if change == "replaced":  # by a file of the same size and time
        before = path.stat()
        shutil.copy(path, folder / "other")
        os.utime(folder / "other", ns=(before.st_atime_ns, before.st_mtime_ns))
        (folder / "other").rename(path)
    else:
        os.utime(path, ns=(0, 0))
    with pytest.raises(ShardError, match=rf"{name} is another file than when this data set was"):
        dataset.sample(0)
    assert Dataset.open(folder).sample(0).key == "clip-0000"


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", [TAR, INDEX, "manifest.json"])
def test_a_pipe_in_a_files_place_is_refused_at_once(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ShardError, match="is no regular file, but a pipe, a device or a folder"):
        Dataset.open(folder).sample(0)
