import os
import resource
import struct
from pathlib import Path

import pytest

from tools.runs.losses import LossFile, LossFileError, LossRow, read_loss_file, read_losses


def start(folder: Path) -> LossFile:
    file = LossFile(folder / "logs" / "losses.csv")
    file.cut(0)
    return file


def test_rows_read_back_with_all_their_bits(tmp_path: Path) -> None:
    file = start(tmp_path)
    loss = struct.unpack("f", struct.pack("f", 5.1234567))[0]
    rows = [LossRow(0, 0, loss, 0.1), LossRow(1, 0, 1 / 3, 1e-300)]
    for row in rows:
        file.append(row)
    file.flush_to_disk()
    assert read_losses(tmp_path) == rows


def test_no_file_means_no_losses_yet(tmp_path: Path) -> None:
    assert read_losses(tmp_path) == []


def test_a_second_attempt_replaces_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    file = start(tmp_path)
    for step in range(5):
        file.append(LossRow(step, 0, 1.0, 0.1))
    file.cut(3)
    for step in (3, 4, 5):
        file.append(LossRow(step, 1, 2.0, 0.1))
    rows = read_losses(tmp_path)
    assert [(row.step, row.loss) for row in rows] == [
        (0, 1.0),
        (1, 1.0),
        (2, 1.0),
        (3, 2.0),
        (4, 2.0),
        (5, 2.0),
    ]


def test_an_unfinished_last_line_is_no_row(tmp_path: Path) -> None:
    file = start(tmp_path)
    file.append(LossRow(0, 0, 1.5, 0.1))
    with file.path.open("a") as stream:
        stream.write("1,0,1.2")
    assert read_losses(tmp_path) == [LossRow(0, 0, 1.5, 0.1)]
    file.cut(1)
    file.append(LossRow(1, 0, 1.25, 0.1))
    assert [row.loss for row in read_losses(tmp_path)] == [1.5, 1.25]


def test_a_foreign_file_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"losses\.csv: the first line must be 'step,epoch"):
        read_loss_file(path)
    path.write_text("step,epoch,loss,learning_rate\n0,0,1.0,0.1\n1,0,many,0.1\n")
    with pytest.raises(LossFileError, match=r"line 3, '1,0,many,0.1', is not a row of losses"):
        read_loss_file(path)


def test_a_damaged_row_is_left_out_and_said(tmp_path: Path) -> None:
    file = start(tmp_path)
    for step in range(4):
        file.append(LossRow(step, 0, 1.5, 0.1))
    text = file.path.read_text().replace("2,0,1.5,0.1\n", "2,0,1.\x00,0.1\n")
    file.path.write_text(text)
    assert file.cut(3) == ["line 4, '2,0,1.\\x00,0.1',"]
    assert [row.step for row in read_losses(tmp_path)] == [0, 1]


def test_a_short_write_is_finished_or_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = start(tmp_path)
    file.append(LossRow(0, 0, 1.5, 0.1))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda to, content: write(to, content[:3]))
        file.append(LossRow(1, 0, 1.25, 0.1))
    assert read_losses(tmp_path) == [LossRow(0, 0, 1.5, 0.1), LossRow(1, 0, 1.25, 0.1)]

    before = file.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))  # room for a part of it
    try:
        with pytest.raises(OSError, match="File too large"):
            file.append(LossRow(2, 0, 1.125, 0.1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.path.read_bytes() == before
