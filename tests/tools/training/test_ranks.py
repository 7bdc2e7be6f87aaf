"""Two processes that share a batch compute what one computes."""

from pathlib import Path

import pytest
import torch

from pipelines.skips import count_skips
from tests.tools.training.commands import forkserver
from tests.tools.training.damage import with_damage
from tests.tools.training.ranks import gdt_row_by_row
from tools.runs.checkpoints import load_checkpoint
from tools.runs.losses import read_losses
from tools.runs.ranks import is_first_rank
from tools.runs.run_folder import RunFolder

SETTINGS = [
    "method.dropout=0.0",
    "optimizer.scale_by_ranks=false",
    "optimizer.schedule=constant",
    "optimizer.warmup_epochs=0.0",
]
TWO = ["trainer.devices=2", "trainer.strategy=ddp_fork"]


def run_row_by_row(
    config: Path, run: Path, *overrides: str, resume: bool = False, **what: int
) -> tuple[int | None, str]:
    """Exit status and output of `gdt pretrain`."""
    settings = [part for setting in (*SETTINGS, *overrides) for part in ("--set", setting)]
    words = ["pretrain", str(config), *settings, "--out", str(run)]
    output = run.with_suffix(".output")
    process = forkserver("tests.tools.training.ranks").Process(
        target=gdt_row_by_row, args=(words + ["--resume"] * resume, output), kwargs=what
    )
    process.start()
    process.join()
    return process.exitcode, " ".join(output.read_text().split())


@pytest.mark.slow(seconds=60)
def test_two_ranks_train_as_one_and_go_on_as_one(tiny_config: Path, tmp_path: Path) -> None:
    """Also where a run goes on with more or fewer of them, and where it is made longer."""
    for name, ranks in (("1", []), ("2", TWO)):
        assert run_row_by_row(tiny_config, tmp_path / name, "trainer.max_steps=6", *ranks)[0] == 0
    for name, before, after in (("1-2", [], TWO), ("2-1", TWO, [])):
        run = tmp_path / name
        assert run_row_by_row(tiny_config, run, "trainer.max_steps=3", *before)[0] == 0
        longer = ("trainer.max_steps=6", *after)
        assert run_row_by_row(tiny_config, run, *longer, resume=True)[0] == 0
    one = read_losses(tmp_path / "1")
    assert len({row.loss for row in one}) == 6
    weights_of_one = load_checkpoint(RunFolder(tmp_path / "1").checkpoint)["state_dict"]
    for name in ("2", "1-2", "2-1"):
        found = read_losses(tmp_path / name)
        assert [row.step for row in found] == list(range(6))
        assert [row.loss for row in found] == pytest.approx([row.loss for row in one], rel=1e-5)
        weights = load_checkpoint(RunFolder(tmp_path / name).checkpoint)["state_dict"]
        for key, weight in weights_of_one.items():
            torch.testing.assert_close(weights[key], weight, rtol=1e-4, atol=1e-6)


@pytest.mark.slow(seconds=10)
def test_a_rank_that_hangs_ends_the_others(tiny_config: Path, tmp_path: Path) -> None:
    limit = "trainer.rank_timeout_seconds=5"
    status, text = run_row_by_row(
        tiny_config, tmp_path / "run", limit, "trainer.checkpoint_every_steps=1", *TWO, hang_at=2
    )
    assert status == 1
    assert "error: a rank did not answer for 5 s (trainer.rank_timeout_seconds): it hangs" in text
    assert load_checkpoint(RunFolder(tmp_path / "run").checkpoint)["global_step"] == 2


@pytest.mark.slow(seconds=10)
def test_one_rank_that_is_not_finite_stops_all(tiny_config: Path, tmp_path: Path) -> None:
    status, text = run_row_by_row(tiny_config, tmp_path / "run", *TWO, not_finite_at=1)
    assert status == 1
    assert "error: the loss is nan at step 1 (epoch 1): stopped before the update" in text
    assert text.count("Samples of the step: ") == 1
    assert len(text.partition("Samples of the step: ")[2].split(", ")) == 4  # of both ranks
    assert [row.step for row in read_losses(tmp_path / "run")] == [0]


@pytest.mark.slow(seconds=10)
def test_a_rank_that_has_no_good_sample_does_not_stop_the_run(
    tiny_config: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    shards = with_damage(tiny_shards, tmp_path / "damaged", [3])  # the second of step 1
    short = (f"data.shards={shards}", "data.batch_size=2", "trainer.epochs=1")
    status, text = run_row_by_row(tiny_config, tmp_path / "run", *short, *TWO)
    assert status == 0
    assert "epoch 1, step 1: passed over, for every sample of one rank's share was skipped" in text
    assert [row.step for row in read_losses(tmp_path / "run")] == list(range(6))  # of 7
    assert count_skips(RunFolder(tmp_path / "run").skip_log) == 1


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "8", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"NODE_RANK": "1"}, False),
        ({"SLURM_PROCID": "3"}, False),
    ],
)
def test_one_process_writes(environment: dict[str, str], expected: bool) -> None:
    assert is_first_rank(environment) is expected
