import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools.cli import app
from tools.runs.config import load_config
from tools.runs.run import load_run
from tools.runs.run_folder import RunError, RunFolder

CONFIG = Path(__file__).parents[3] / "configs" / "synthetic.toml"


def claim(config: Path, run: Path, *overrides: str, resume: bool = False) -> None:
    RunFolder(run).claim(load_config(config, overrides), resume=resume)


def refusal(config: Path, run: Path, *overrides: str, resume: bool = False) -> str:
    with pytest.raises(RunError) as caught:
        claim(config, run, *overrides, resume=resume)
    return str(caught.value)


def test_the_resolved_config_is_kept(tiny_config: Path, tmp_path: Path) -> None:
    claim(tiny_config, tmp_path / "run", "seed=9")
    assert load_config(tmp_path / "run" / "config.toml") == load_config(tiny_config, ["seed=9"])


def test_a_second_run_in_the_folder_is_refused_with_what_to_do(
    tiny_config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    claim(tiny_config, run)
    text = refusal(tiny_config, run)
    assert f"{run} already holds a run of this config" in text
    assert "Continue it with --resume, or choose another folder with --out" in text
    claim(tiny_config, run, resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_another_config_is_refused_with_the_differing_keys(
    tiny_config: Path, tmp_path: Path, resume: bool
) -> None:
    run = tmp_path / "run"
    claim(tiny_config, run)
    before = (run / "config.toml").read_text()
    text = refusal(tiny_config, run, "seed=9", "method.temperature=0.5", resume=resume)
    assert "already holds a run of another config" in text
    assert "\n  method.temperature: 0.5, was 0.07\n  seed: 9, was 3\n" in text
    assert (run / "config.toml").read_text() == before


def test_where_and_how_fast_it_runs_may_change_on_resume(tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    claim(tiny_config, run)
    claim(tiny_config, run, "data.threads=1", "trainer.devices=2", resume=True)
    assert load_config(run / "config.toml").data.threads == 1
    # what a run needs that a decoder has crashed
    claim(tiny_config, run, "data.isolate=true", "data.isolate_seconds=5", resume=True)
    assert load_config(run / "config.toml").data.isolate


def test_a_mixtures_shards_may_move_and_its_weights_may_not(
    tiny_config: Path, tmp_path: Path
) -> None:
    run, one = tmp_path / "run", "data.shards=''"
    claim(tiny_config, run, one, "data.mix.a={shards='here'}")
    claim(tiny_config, run, one, "data.mix.a={shards='there'}", resume=True)
    text = refusal(tiny_config, run, one, "data.mix.a={shards='here', weight=2}", resume=True)
    assert "\n  data.mix.a.weight: 2.0, was 1.0\n" in text


def test_nothing_to_resume(tiny_config: Path, tmp_path: Path) -> None:
    text = refusal(tiny_config, tmp_path / "run", resume=True)
    assert "holds no run to resume: there is no config.toml in it" in text
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_cannot_be_loaded(tiny_config: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no run folder: there is no config\.toml in it"):
        load_run(tmp_path)
    claim(tiny_config, tmp_path / "run")
    with pytest.raises(RunError, match=r"has no checkpoint yet \(checkpoints/last\.ckpt\)"):
        load_run(tmp_path / "run")


def test_a_start_that_failed_leaves_the_folder_free(tiny_config: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    claim(tiny_config, folder.path)
    folder.release()
    claim(tiny_config, folder.path, "seed=9")
    folder.losses.parent.mkdir()
    folder.losses.write_text("step,epoch,loss,learning_rate\n")
    folder.release()
    claim(tiny_config, folder.path, "seed=10")
    folder.losses.write_text("step,epoch,loss,learning_rate\n0,0,6.5,0.01\n")
    folder.release()
    assert "already holds" in refusal(tiny_config, folder.path)


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with run.held():
        for resume in ((), ("--resume",)):  # whatever the second one wants
            result = CliRunner().invoke(
                app, ["pretrain", str(CONFIG), *resume, "--out", str(run.path)]
            )
            assert result.exit_code == 1
            text = " ".join(result.output.split())
            assert f"{run.path} is in use: a run is at work in it (process {os.getpid()} on" in text
            assert "Wait until it ends, stop it, or choose another folder with --out" in text
    assert not run.path.exists()  # nothing was begun in it
    with run.held():
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written: Not a directory. Choose another"):
        RunFolder(tmp_path / "file" / "run").held().__enter__()
