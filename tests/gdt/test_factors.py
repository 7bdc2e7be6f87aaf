"""Each factor: what its own table may say, and the table of factors itself."""

from typing import Any

import pytest

from gdt import Plan
from gdt.factors import FACTORS
from gdt.modalities import MODALITIES

CROSS = {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"}


def plan_with(**tables: dict[str, Any]) -> Plan:
    return Plan.from_tables({"sample": {"relation": "distinctive"}, "modality": CROSS, **tables})


def test_columns_of_plans_of_before_keep_their_order() -> None:
    before = ["sample", "time_shift", "modality", "time_reversal", "augmentation"]
    assert [name for name in FACTORS if name in before] == before


def test_every_factor_says_where_its_draws_are_made() -> None:
    stages = {name: factor.stage for name, factor in FACTORS.items()}
    assert stages == {
        "sample": "decode",
        "time_shift": "decode",
        "speed": "decode",
        "modality": "decode",
        "time_reversal": "device",
        "crop": "device",
        "augmentation": "device",
    }


def test_a_modality_says_what_a_value_of_it_is() -> None:
    assert str(MODALITIES["video"]) == "float [B, 3, T, H, W]: normalised RGB frames"
    assert str(MODALITIES["text"]) == "int64 [B, S]: token numbers, padded to S with 0"


def test_speeds_give_the_number_of_draws() -> None:
    plan = plan_with(speed={"relation": "distinctive", "values": [1.0, 2, 4.0]})
    assert plan.draws("speed") == 3
    speed = plan.factor("speed")
    assert speed is not None
    assert speed.values == (1.0, 2, 4.0)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"speed": {"values": [1.0, "fast"]}}, r"\[plan.speed\].*must be a list of numbers"),
        ({"speed": {"values": [1.0, -2.0]}}, "must be different speeds from 0.0625 to 16.0"),
        ({"speed": {"values": [1.0, float("nan")]}}, "must be different speeds"),
        ({"speed": {"values": [2.0, 2.0]}}, "must be different from each other"),
        ({"speed": {"draws": 2}}, r"values = \[\], must be different speeds"),
        ({"time_reversal": {"draws": 3}}, "draws = 3; a segment plays forwards or backwards"),
        ({"time_shift": {"draws": 20000}}, r"draws = 20000, must be from 1 to 1024"),
        ({"time_shift": {"draws": 0}}, r"\[plan.time_shift\]: draws = 0, must be from 1"),
        ({"time_shift": {"draws": True}}, "draws = True, must be a whole number"),
        ({"time_shift": {"draws": 2, "min_seconds_apart": -1.0}}, "number of seconds from 0 on"),
        ({"time_shift": {"draws": 2, "min_seconds_apart": "1"}}, "number of seconds from 0 on"),
        ({"time_shift": {"draws": 2, "min_seconds_apart": float("inf")}}, "seconds from 0 on"),
        ({"time_shift": {"min_seconds_apart": 1.0}}, "is between starts: set draws = 2 or more"),
        ({"crop": {"draws": 2, "min_seconds_apart": 1.0}}, "unknown key 'min_seconds_apart'"),
        ({"crop": {"draws": 2, "values": ["left"]}}, "1 values for draws = 2"),
        ({"sample": {"draws": 4}}, "its draws are the batch's samples"),
    ],
)
def test_what_a_factor_cannot_be(tables: dict[str, dict[str, Any]], message: str) -> None:
    name, table = next(iter(tables.items()))
    with pytest.raises(ValueError, match=message):
        plan_with(**{name: {"relation": "distinctive", **table}})


def test_all_draws_together_have_a_bound_that_the_message_gives() -> None:
    many = {"relation": "distinctive", "draws": 40}
    with pytest.raises(
        ValueError, match=r"plan: 3200 transformations .*, 1024 at most.* 40 \(crop"
    ):
        plan_with(crop=many, time_shift=many)
