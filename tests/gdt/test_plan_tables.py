"""The [plan] table: published plans by name, and tables from files that may hold anything."""

import os
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gdt import Plan, named_plan

SAMPLE = {"relation": "distinctive"}
CROSS = {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"}


def with_file(folder: Path, name: str, **keys: Any) -> Plan:
    tables = {"sample": SAMPLE, "modality": CROSS, "tables": {"contrast_file": name, **keys}}
    return Plan.from_tables(tables, folder)


def test_a_name_stands_for_its_tables() -> None:
    assert Plan.from_tables({"name": "v_reversal_i_shift"}) == named_plan("v_reversal_i_shift")


def test_own_keys_stand_over_those_of_the_name() -> None:
    plan = Plan.from_tables(
        {"name": "v_reversal_i_shift", "time_shift": {"draws": 4}, "crop": {**SAMPLE, "draws": 2}}
    )
    assert plan.draws("time_shift") == 4
    shift = plan.factor("time_shift")
    assert shift is not None
    assert shift.relation == "invariant"
    assert plan.names == ("sample", "time_shift", "modality", "time_reversal", "crop")


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"name": "hypothesis"}, "no plan is named 'hypothesis', there are cross_modal_baseline"),
        ({"name": 3}, "no plan is named 3"),
        ({"sample": "distinctive"}, r"sample = 'distinctive', must be a table \[plan.sample\]"),
        ({"name": "clip", "tables": {"symmetric": "no"}}, "symmetric = 'no', must be true or fal"),
    ],
)
def test_what_is_no_plan_is_said(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.from_tables(tables)


def test_npy_and_csv_say_the_same(tmp_path: Path) -> None:
    table = np.array([[0, 1], [0.25, 0]])
    np.save(tmp_path / "c.npy", table)
    (tmp_path / "c.csv").write_text("0,1\n0.25,0\n")
    assert with_file(tmp_path, "c.npy") == with_file(tmp_path, "c.csv")
    codes = torch.tensor([[5, 0], [5, 1]])
    assert with_file(tmp_path, "c.npy").contrast(codes, codes).tolist() == table.tolist()


def test_a_factors_own_table_may_be_a_file(tmp_path: Path) -> None:
    soft = [[1.0, 0.5], [0.5, 1.0]]
    np.save(tmp_path / "soft.npy", np.array(soft, dtype=np.float32))
    shift = {**SAMPLE, "draws": 2}
    tables = {"sample": SAMPLE, "modality": CROSS}
    by_file = {**tables, "time_shift": {**shift, "contrast_file": "soft.npy", "symmetric": True}}
    by_value = {**tables, "time_shift": {**shift, "contrast": soft}}
    assert Plan.from_tables(by_file, tmp_path) == Plan.from_tables(by_value)
    both = {**tables, "time_shift": {**shift, "contrast_file": "soft.npy", "contrast": soft}}
    with pytest.raises(ValueError, match="both contrast and contrast_file; keep one"):
        Plan.from_tables(both, tmp_path)


def test_symmetry_is_checked_where_it_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("0,1\n0.5,0\n")
    with_file(tmp_path, "c.csv", symmetric=False)
    with pytest.raises(ValueError, match=r"not symmetric, .*: 0.5 in row 1 column 0, 1.0 in row 0"):
        with_file(tmp_path, "c.csv", symmetric=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1\n1\n", r"must be a table of 4 × 2 numbers, got 4 rows of \[1, 2\] numbers"),
        ("0,1\n", "must be a table of 4 × 2 numbers, got 1 rows"),
        ("", "must be a table of 4 × 2 numbers, got 0 rows"),
        ("0,2\n2,0\n", "entries must be from 0 to 1, got 2.0 in row 0 column 1"),
        ("0,nan\n1,0\n", "got nan in row 0 column 1"),
        ("0,-1\n1,0\n", "got -1.0 in row 0 column 1"),
        ("a,b\n", "is not a CSV file of numbers"),
        ("__import__('os'),1\n", "is not a CSV file of numbers"),
        ("\0\n", "is not a CSV file of numbers"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        with_file(tmp_path, "c.csv")


def test_bad_npy(tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    path.write_bytes(pickle.dumps([[1, 2], [3, 4]]))
    with pytest.raises(ValueError, match=r"is not a \.npy file of numbers"):
        with_file(tmp_path, "c.npy")
    np.save(path, np.array([["a", None]], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"is not a \.npy file of numbers: .*Python obj"):
        with_file(tmp_path, "c.npy")
    np.save(path, np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"must hold a table of rows .* got float64 \[2, 2, 2\]"):
        with_file(tmp_path, "c.npy")
    np.save(path, np.zeros((2, 2), dtype=complex))
    with pytest.raises(ValueError, match="got complex128"):
        with_file(tmp_path, "c.npy")
    np.save(path, np.zeros((2, 2)))
    honest = path.read_bytes()
    for shape in (b"(99999, 999), }", b"(2, 2          ", b"(-1, -1), }    "):
        path.write_bytes(honest.replace(b"(2, 2), }      ", shape))
        assert path.read_bytes() != honest
        with pytest.raises(ValueError, match=r"is not a \.npy file of numbers"):
            with_file(tmp_path, "c.npy")


@pytest.mark.parametrize("name", ["/dev/zero", "fifo.csv", "large.csv", "folder.npy"])
def test_what_is_no_table_is_refused_at_once(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "folder.npy").mkdir()
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"not a regular file|has 1099511627776 bytes, a table may have 67108864"
    ):
        with_file(tmp_path, name)
    assert time.monotonic() - start < 1
