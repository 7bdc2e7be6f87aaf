"""Where actions are found in metadata, and what is none."""

from typing import Any

import pytest

from shards.reading.actions import actions_of


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"actions": [3, 0, 12]}, (3, 0, 12)),
        ({"metadata": {"actions": "3 0 12"}}, (3, 0, 12)),
        ({"actions": "", "metadata": {"actions": "1"}}, (1,)),
        ({"label": "a"}, ()),
    ],
)
def test_actions_are_a_list_or_words(metadata: dict[str, Any], expected: tuple[int, ...]) -> None:
    assert actions_of(metadata) == expected


@pytest.mark.parametrize("value", ["1 left", [1, -1], 5, [1.5]])
def test_what_is_no_action_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="must be whole numbers from 0 on"):
        actions_of({"actions": value})
