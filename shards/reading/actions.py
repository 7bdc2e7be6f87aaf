"""The actions of a sample: what was done between each two frames of its clip."""

from collections.abc import Mapping
from typing import Any

__all__ = ["actions_of"]


def actions_of(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """All actions of a sample, in order; none where it has none.

    Args:
        metadata: of `Samples.metadata`. `actions` are whole numbers from 0 on, in a list or with
            spaces between; they may lie under `metadata`, where a build keeps the columns of a
            labels file.

    Raises:
        ValueError: something else than such numbers.
    """
    inner = metadata.get("metadata")
    for place in (metadata, inner if isinstance(inner, Mapping) else {}):
        value = place.get("actions")
        if value in (None, "", []):
            continue
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, list) or not all(str(word).isdecimal() for word in words):
            raise ValueError(f"actions = {value!r}, must be whole numbers from 0 on")
        return tuple(int(word) for word in words)
    return ()
