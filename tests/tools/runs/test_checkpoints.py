"""A checkpoint is whole and unchanged, or it is not believed."""

import random
import resource
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tools.runs.checkpoints import (
    load_checkpoint,
    newest_checkpoint,
    set_damaged_aside,
)
from tools.runs.run_folder import RunError, RunFolder
from tools.training.checkpoint_io import AtomicCheckpointIO


def content(step: int) -> dict[str, Any]:
    weights = torch.arange(3000.0).reshape(30, 100) + step
    return {"global_step": step, "state_dict": {"a": weights, "b": torch.ones(7)}}


def save(folder: RunFolder, *steps: int) -> None:
    for step in steps:
        AtomicCheckpointIO().save_checkpoint(content(step), folder.checkpoint)


def flip(path: Path, position: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def is_content(found: dict[str, Any], step: int) -> bool:
    wanted = content(step)
    tensors = found["state_dict"]
    return found["global_step"] == step and all(
        torch.equal(tensors[name], values) for name, values in wanted["state_dict"].items()
    )


def test_a_flipped_bit_changes_no_weight(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save(folder, 1)
    whole, size = folder.checkpoint.read_bytes(), folder.checkpoint.stat().st_size
    draw = random.Random(0)
    refused = 0
    for _ in range(300):
        folder.checkpoint.write_bytes(whole)
        flip(folder.checkpoint, draw.randrange(size), draw.randrange(8))
        try:
            found = load_checkpoint(folder.checkpoint)
        except RunError:
            refused += 1
        else:  # in the padding between the members
            assert is_content(found, 1)
    assert refused > 200


def test_the_one_before_is_kept_and_used_with_a_message(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    said: list[str] = []
    assert newest_checkpoint(folder, said.append) is None
    save(folder, 1, 2, 3)
    assert newest_checkpoint(folder, said.append) == folder.checkpoint
    assert said == []
    assert is_content(load_checkpoint(folder.previous_checkpoint), 2)

    flip(folder.checkpoint, 5000, 3)
    assert newest_checkpoint(folder, said.append) == folder.previous_checkpoint
    (line,) = said
    assert "last.ckpt cannot be read as a checkpoint (its member " in line
    assert f"Using the checkpoint before it, {folder.previous_checkpoint}" in line

    set_damaged_aside(folder, folder.previous_checkpoint)
    save(folder, 4)  # does not put the damaged one in the place of the good one
    assert is_content(load_checkpoint(folder.previous_checkpoint), 2)
    assert is_content(load_checkpoint(folder.checkpoint), 4)
    assert (folder.checkpoint.parent / "last.damaged").exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_one_that_was_cut_short_does_not_end_the_run(tmp_path: Path, share: float) -> None:
    folder = RunFolder(tmp_path)
    save(folder, 1, 2)
    with folder.checkpoint.open("r+b") as file:
        file.truncate(int(share * folder.checkpoint.stat().st_size))
    assert newest_checkpoint(folder, lambda line: None) == folder.previous_checkpoint


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save(folder, 1)
    folder.checkpoint.replace(folder.previous_checkpoint)
    assert newest_checkpoint(folder, lambda line: None) == folder.previous_checkpoint


def test_two_damaged_ones_are_an_error(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save(folder, 1, 2)
    for path in (folder.checkpoint, folder.previous_checkpoint):
        path.write_bytes(b"PK\x03\x04 of another kind")
    with pytest.raises(RunError, match=r"last\.ckpt cannot be read as a checkpoint"):
        newest_checkpoint(folder, lambda line: None)


def test_a_packed_member_is_refused_unread(tmp_path: Path) -> None:
    """A few kilobytes could ask for any amount of memory."""
    folder = RunFolder(tmp_path)
    save(folder, 1)
    packed = tmp_path / "packed.ckpt"
    with (
        zipfile.ZipFile(folder.checkpoint) as archive,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    with pytest.raises(RunError, match="is compressed, which its writer never does"):
        load_checkpoint(packed)


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Shout:
        def __reduce__(self) -> tuple[Any, ...]:
            return shutil.rmtree, (str(tmp_path),)

    path = tmp_path / "bad.ckpt"
    torch.save({"state_dict": Shout()}, path)
    with pytest.raises(RunError, match="cannot be read as a checkpoint"):
        load_checkpoint(path)
    assert tmp_path.exists()


def test_a_full_disk_is_one_message_and_leaves_no_part(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    save(folder, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096, hard)
    )  # as far as a file can tell, a full disk
    try:
        with pytest.raises(RunError) as caught:
            save(folder, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == (
        f"{folder.checkpoint} cannot be written: File too large. The checkpoint before it is "
        "kept: make room (trainer.checkpoint_every_steps saves less often) and go on with --resume"
    )
    assert [path.name for path in folder.checkpoint.parent.iterdir()] == ["last.ckpt"]
    assert is_content(load_checkpoint(folder.checkpoint), 1)
