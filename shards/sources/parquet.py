"""Rows of a Parquet file, a batch at a time, as plain values that json can hold."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from shards.errors import BuildError

BATCH_ROWS = 1024


def parquet_rows(
    path: Path, check_columns: Callable[[Path, Sequence[str]], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number (from 1) and fields of every row, in order, once `check_columns` took their names.

    Raises:
        BuildError: the file is damaged, a column's type has no plain json, or a number is none.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise BuildError(
            f"List {path} needs pyarrow, which is not here: pip install 'gdt-stream[parquet]'."
        ) from error
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            check_columns(path, file.schema_arrow.names)
            for column in file.schema_arrow:
                if not _is_plain(column.type):
                    raise BuildError(
                        f"List {path}: column {column.name} is of type {column.type}; allowed: "
                        "texts, integers, floats of 32 or 64 bits, booleans, and lists and structs "
                        "of these. Cast or drop it."
                    )
            for batch in file.iter_batches(BATCH_ROWS):
                for fields in batch.to_pylist():
                    number += 1
                    if not _is_finite(fields):
                        raise BuildError(
                            f"{path.name}:{number} has a number that is none (NaN or infinite); "
                            "leave the field empty (null), then run the same command again."
                        )
                    yield number, fields
    except pa.ArrowException as error:
        raise BuildError(f"List {path} cannot be read: {error} (after row {number}).") from error


def _is_plain(kind: Any) -> bool:
    """Whether the values of an Arrow type are texts, numbers, or nested out of these."""
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    if types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    plain = (
        types.is_null,
        types.is_boolean,
        types.is_integer,
        types.is_float32,
        types.is_float64,
        types.is_string,
        types.is_large_string,
        types.is_string_view,
    )
    return any(is_one(kind) for is_one in plain)


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    return all(map(_is_finite, value)) if isinstance(value, list) else True
