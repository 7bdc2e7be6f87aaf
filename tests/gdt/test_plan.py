"""Plans against Kronecker products, hand-written matrices, and the errors they must give."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gdt import Plan, named_plan
from gdt.named_plans import NAMED_PLANS

SAMPLE = {"relation": "distinctive"}
CROSS = {"relation": "invariant", "values": ["video", "audio"], "pairs": "cross"}


def full_grid(plan: Plan, num_samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    codes = plan.codes(torch.arange(num_samples))
    return plan.contrast(codes, codes), plan.weight(codes, codes)


@pytest.mark.parametrize("name", NAMED_PLANS)
def test_full_grid_is_the_kronecker_product_of_the_factors_tables(name: str) -> None:
    plan = named_plan(name)
    num_samples = 3
    contrast, weight = full_grid(plan, num_samples)
    expected_contrast = expected_weight = torch.ones(1, 1, dtype=torch.float64)
    for factor in plan.factors:
        if factor.name == "sample":
            c, w = torch.eye(num_samples), torch.ones(num_samples, num_samples)
        else:
            c, w = factor.contrast_table, factor.weight_table
        expected_contrast = torch.kron(expected_contrast, c.double())
        expected_weight = torch.kron(expected_weight, w.double())
    expected_weight.fill_diagonal_(0)
    assert torch.equal(contrast, expected_contrast)
    assert torch.equal(weight, expected_weight)


def test_matrices_one_can_check_by_eye() -> None:
    plan = Plan.from_tables({"sample": SAMPLE, "modality": CROSS})
    contrast, weight = full_grid(plan, 2)  # rows and columns: 0 video, 0 audio, 1 video, 1 audio
    assert contrast.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]
    assert weight.tolist() == [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]


def test_a_pair_with_itself_never_takes_part() -> None:
    plan = named_plan("simclr")
    _, weight = full_grid(plan, 4)
    assert weight.diagonal().eq(0).all()
    assert weight.sum() == 8 * 7


def test_rectangular_matrices_are_blocks_of_the_square_one() -> None:
    plan = named_plan("v_reversal_v_shift")
    codes = plan.codes(torch.tensor([7, 2, 9]))
    contrast, weight = plan.contrast(codes, codes), plan.weight(codes, codes)
    rows, columns = torch.tensor([1, 5, 17]), torch.tensor([0, 3, 8, 20, 23])
    assert torch.equal(plan.contrast(codes[rows], codes[columns]), contrast[rows][:, columns])
    assert torch.equal(plan.weight(codes[rows], codes[columns]), weight[rows][:, columns])


def test_own_table_of_a_factor_takes_its_place() -> None:
    soft = [[1.0, 0.5], [0.5, 1.0]]
    plan = Plan.from_tables(
        {
            "sample": SAMPLE,
            "time_shift": {"relation": "distinctive", "draws": 2, "contrast": soft},
            "modality": CROSS,
        }
    )
    contrast, _ = full_grid(plan, 1)
    # rows: shift 0 video, shift 0 audio, shift 1 video, shift 1 audio
    assert torch.equal(contrast, torch.kron(torch.tensor(soft), torch.ones(2, 2)).double())


def test_whole_table_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("0,1\n1,0\n")
    (tmp_path / "w.csv").write_text("0,1\n1,0\n0,2\n2,0\n")
    plan = Plan.from_tables(
        {
            "sample": SAMPLE,
            "modality": CROSS,
            "tables": {"contrast_file": "c.csv", "weight_file": "w.csv"},
        },
        folder=tmp_path,
    )
    contrast, weight = full_grid(plan, 2)
    assert contrast.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    assert weight.tolist() == [[0, 1, 0, 2], [1, 0, 2, 0], [0, 2, 0, 1], [2, 0, 1, 0]]


def test_whole_tables_equal_the_product_they_spell_out(tmp_path: Path) -> None:
    product = named_plan("v_reversal_v_shift")
    grid = product.codes(torch.arange(2))
    size = len(product.grid())
    for name, matrix in (
        ("c.csv", product.contrast(grid, grid)),
        ("w.csv", product.weight(grid, grid)),
    ):
        rows = torch.cat([matrix[:size, :size], matrix[:size, size:]])
        (tmp_path / name).write_text("\n".join(",".join(map(str, row)) for row in rows.tolist()))
    tables = {
        **NAMED_PLANS["v_reversal_v_shift"],
        "tables": {"contrast_file": "c.csv", "weight_file": "w.csv"},
    }
    spelled_out = Plan.from_tables(tables, tmp_path)
    codes = product.codes(torch.tensor([4, 0, 11]))
    assert torch.equal(spelled_out.contrast(codes, codes), product.contrast(codes, codes))
    assert torch.equal(spelled_out.weight(codes, codes), product.weight(codes, codes))


def test_draws_have_names() -> None:
    plan = named_plan("v_shift")
    names = [plan.draw_names(code) for code in plan.codes(torch.tensor([3]))]
    assert plan.names == ("sample", "time_shift", "modality")
    assert names == [
        ["3", "0", "video"],
        ["3", "0", "audio"],
        ["3", "1", "video"],
        ["3", "1", "audio"],
    ]


def test_a_speed_is_named_by_its_number() -> None:
    speed = {"relation": "distinctive", "values": [1.0, 2.0]}
    plan = Plan.from_tables({"sample": SAMPLE, "speed": speed, "modality": CROSS})
    assert plan.names == ("sample", "speed", "modality")
    assert plan.row_name(plan.grid()[2]) == "sample 0 · speed 2.0 · video"


def test_places_are_rows_of_the_grid() -> None:
    plan = named_plan("v_reversal_v_shift")
    samples, places = plan.places(plan.codes(torch.tensor([7, 2])))
    assert samples.tolist() == [7] * 8 + [2] * 8
    assert places.tolist() == [*range(8), *range(8)]


#: as versions before factors with keys of their own gave them: what a saved position holds
FINGERPRINTS = {
    "cross_modal_baseline": "e26631a4a45c047a",
    "v_reversal": "8aeb51f56ea32923",
    "i_reversal_i_shift": "bb0025b076539076",
    "simclr": "4d90e645fb4ab33f",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_fingerprints_stay_what_they_were(name: str) -> None:
    assert named_plan(name).fingerprint() == FINGERPRINTS[name]


def test_the_distance_between_shifts_is_part_of_the_fingerprint_where_it_is_given() -> None:
    def plan(**keys: float) -> Plan:
        return Plan.from_tables({"name": "v_shift", "time_shift": keys})

    assert plan(min_seconds_apart=0.0).fingerprint() == named_plan("v_shift").fingerprint()
    assert plan(min_seconds_apart=0.5).fingerprint() != named_plan("v_shift").fingerprint()
    assert plan(min_seconds_apart=0.5).min_seconds_apart == 0.5
    assert named_plan("v_shift").min_seconds_apart == 0
    assert named_plan("simclr").min_seconds_apart == 0


def test_fingerprint_changes_with_the_plan_only() -> None:
    assert named_plan("v_shift").fingerprint() == named_plan("v_shift").fingerprint()
    assert len({named_plan(name).fingerprint() for name in NAMED_PLANS}) == len(NAMED_PLANS) - 1


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"modality": CROSS}, "factor 'sample' is missing"),
        ({"sample": SAMPLE}, "factor 'modality' is missing"),
        ({"sample": SAMPLE, "colour": SAMPLE}, "unknown factor 'colour', allowed are name, sample"),
        ({"sample": {"relation": "invariant"}, "modality": CROSS}, "must be distinctive"),
        ({"sample": {"relation": "both"}, "modality": CROSS}, "allowed are invariant, distinctive"),
        ({"sample": {}, "modality": CROSS}, "relation is missing"),
        (
            {"sample": SAMPLE, "modality": {**CROSS, "draws": 2.5}},
            r"\[plan.modality\]: draws = 2.5, must be a whole number",
        ),
        ({"sample": SAMPLE, "modality": {**CROSS, "values": "video"}}, "must be a list of names"),
        ({"sample": SAMPLE, "modality": {**CROSS, "contrast": 3}}, "must be a list of rows"),
        (
            {"sample": SAMPLE, "modality": CROSS, "tables": {"contrast_file": 3}},
            "contrast_file = 3, must be the name of a file",
        ),
        ({"sample": {**SAMPLE, "weigth": 1}, "modality": CROSS}, "unknown key 'weigth'"),
        (
            {"sample": SAMPLE, "modality": {**CROSS, "values": ["video", "smell"]}},
            "must be different ones of video, audio, image, text",
        ),
        (
            {"sample": SAMPLE, "modality": {**CROSS, "contrast": [[1, 0]]}},
            "must be a table of 2 × 2 numbers, got 1 rows",
        ),
        (
            {"sample": SAMPLE, "modality": {**CROSS, "weight": [[1, -1], [1, 1]]}},
            "finite and not negative",
        ),
        (
            {"sample": SAMPLE, "modality": CROSS, "tables": {"contrast_file": "absent.csv"}},
            "cannot read .*absent.csv: No such file",
        ),
    ],
)
def test_what_is_wrong_is_said(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan.from_tables(tables)


def test_factors_out_of_order_are_refused() -> None:
    plan = named_plan("v_shift")
    with pytest.raises(ValueError, match="in the order"):
        Plan(plan.factors[::-1])
