"""How messages count."""

from shards.building.report import BuildSummary
from shards.plural import plural


def test_one_is_not_many() -> None:
    said = [plural(number, "clip") for number in (0, 1, 2, 12345)]
    assert said == ["0 clips", "1 clip", "2 clips", "12,345 clips"]
    assert f"{BuildSummary(1, 1, 1)}" == "1 clip of 1 source; 0 of 1 source skipped"
