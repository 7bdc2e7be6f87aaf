"""Where captions are found in metadata."""

from typing import Any

import pytest

from shards.reading.captions import captions_of


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, ()),
        ({"caption": "a dog"}, ("a dog",)),
        ({"caption": "  "}, ()),
        ({"caption": 3, "captions": "x"}, ("x",)),
        ({"captions": [" a dog ", "", 5, "a cat"]}, ("a dog", "a cat")),
        ({"caption": "one", "metadata": {"captions": ["two", "three"]}}, ("two", "three")),
        ({"captions": [], "metadata": {"caption": "inner"}}, ("inner",)),
        ({"metadata": "no table"}, ()),
    ],
)
def test_captions_of(metadata: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert captions_of(metadata) == expected
