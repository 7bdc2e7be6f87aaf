"""A transformation that nothing attracts or repels is refused, with the factor to blame."""

from pathlib import Path
from typing import Any

import pytest

from gdt import Plan
from gdt.named_plans import NAMED_PLANS

SAMPLE = {"relation": "distinctive"}
CROSS = {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"}
IMAGE = {"relation": "invariant", "values": ["image"]}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"modality": IMAGE, "augmentation": {"relation": "distinctive", "draws": 2}},
            r"factor 'augmentation' is to blame: \[plan.augmentation\] relation = ",
        ),
        (
            {"modality": {**CROSS, "relation": "distinctive"}},
            r"factor 'modality' is to blame: \[plan.modality\] relation = \"distinctive\"",
        ),
        (
            {"modality": {**IMAGE, "pairs": "cross"}, "augmentation": {**SAMPLE, "draws": 2}},
            "takes part in no pair",
        ),
        (
            {
                "modality": {**IMAGE, "pairs": "cross"},
                "augmentation": {"relation": "invariant", "draws": 2},
            },
            r"factor 'modality' is to blame: .*pairs = \"cross\" needs a second draw",
        ),
        (
            {
                "modality": CROSS,
                "time_shift": {**SAMPLE, "draws": 2, "contrast": [[1, 1], [0, 0]]},
            },
            r"'sample 0 · time_shift 1 · video' has no positive.*'time_shift' is to blame.*row 1",
        ),
        (
            {
                "modality": CROSS,
                "time_shift": {**SAMPLE, "draws": 2, "weight": [[1, 0], [0, 0]]},
            },
            r"takes part in no pair.*'time_shift' is to blame.*weight: row 1 is 0 throughout",
        ),
        (
            {"modality": CROSS, "time_shift": {**SAMPLE, "draws": 2, "pairs": "cross"}},
            r"'time_shift' is to blame.* relation = \"distinctive\": set \"invariant\"",
        ),
    ],
)
def test_the_factor_to_blame_is_named(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.from_tables({"sample": SAMPLE, **tables})


def test_a_key_that_is_no_anchor_is_welcome() -> None:
    one_way = {**CROSS, "weight": [[0, 1], [0, 0]]}  # only video looks at audio
    assert Plan.from_tables({"sample": SAMPLE, "modality": one_way}).modalities[0] == "video"


@pytest.mark.parametrize(
    ("contrast", "weight", "message"),
    [
        ("0,1\n1,0\n", "0,1\n1,0\n0,0\n0,0\n", "'sample 0 · video' has no negative"),
        ("0,1\n1,0\n0,1\n0,1\n", "0,1\n1,0\n", "'sample 0 · video' has no negative"),
        ("0,1\n0,0\n", "0,1\n1,0\n", r"'sample 0 · audio' has no positive .*\[plan.tables\] is to"),
    ],
)
def test_whole_tables_are_checked_too(
    tmp_path: Path, contrast: str, weight: str, message: str
) -> None:
    (tmp_path / "c.csv").write_text(contrast)
    (tmp_path / "w.csv").write_text(weight)
    files = {"contrast_file": "c.csv", "weight_file": "w.csv"}
    with pytest.raises(ValueError, match=message):
        Plan.from_tables({"sample": SAMPLE, "modality": CROSS, "tables": files}, tmp_path)


@pytest.mark.parametrize("name", NAMED_PLANS)
def test_published_plans_pass(name: str) -> None:
    assert Plan.from_tables({"name": name}).num_transformations >= 2
