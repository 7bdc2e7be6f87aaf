"""Tables of numbers from files: CSV text, or NumPy's .npy. Nothing is unpickled or evaluated."""

import csv
import tokenize
from pathlib import Path
from typing import Final

import numpy as np
from numpy.lib.format import open_memmap

from gdt.factor import Table

#: Some 2 × 1024 × 1024 numbers with 17 digits each; what is larger is no table of a plan.
MAX_BYTES: Final = 64 * 2**20


def read_table(path: Path, where: str) -> Table:
    """Rows of numbers.

    Args:
        path: a .npy file of one 2-D array of numbers, or else CSV text.
        where: begins every message.

    Raises:
        ValueError: not a regular file, too large, not numbers.
    """
    try:
        if not path.is_file():
            reason = "it is not a regular file" if path.exists() else "No such file or directory"
            raise ValueError(f"{where}: cannot read {path}: {reason}")
        num_bytes = path.stat().st_size
        if num_bytes > MAX_BYTES:
            raise ValueError(
                f"{where}: {path} has {num_bytes} bytes, a table may have {MAX_BYTES} at most"
            )
        return _read_npy(path, where) if path.suffix == ".npy" else _read_csv(path, where)
    except OSError as error:
        raise ValueError(f"{where}: cannot read {path}: {error.strerror or error}") from error


def _read_npy(path: Path, where: str) -> Table:
    try:
        array = open_memmap(path, mode="r")  # refuses objects, and a shape the file cannot hold
    except (ValueError, SyntaxError, TypeError, OverflowError, tokenize.TokenError) as error:
        raise ValueError(f"{where}: {path} is not a .npy file of numbers: {error}") from error
    if array.ndim != 2 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{where}: {path} must hold a table of rows and columns of numbers, got "
            f"{array.dtype} {list(array.shape)}"
        )
    return tuple(map(tuple, np.asarray(array, dtype=np.float64).tolist()))


def _read_csv(path: Path, where: str) -> Table:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return tuple(tuple(float(x) for x in row) for row in csv.reader(lines) if row)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{where}: {path} is not a CSV file of numbers: {error}") from error
