"""`gdt evaluate knn` on a tiny labelled data set, and what it says of wrong input."""

import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tools.cli import app
from tools.evaluation.knn_report import KnnResult, print_report

SIMCLR = """
[data]
shards = "SHARDS"
batch_size = 6
[segment]
seconds = 0.1
num_frames = 1
[plan.sample]
relation = "distinctive"
[plan.modality]
relation = "invariant"
values = ["image"]
[plan.augmentation]
relation = "invariant"
draws = 2
[image_augment]
size = 16
[model]
method = "METHOD"
image = "resnet_small"
hidden_dim = 16
embedding_dim = 8
queue_size = 10
batch_norm_groups = 2
[optimizer]
learning_rate = 0.01
[trainer]
epochs = 1
accelerator = "cpu"
"""


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FOLDER/train and FOLDER/val: 12 and 6 clips with labels; FOLDER/bare: 6 without."""
    from shards import BuildOptions
    from shards.building.build import build
    from tools.sample_data.synthetic import SyntheticOptions, build_corpus

    folder = tmp_path_factory.mktemp("labelled")
    build_corpus(folder / "videos", SyntheticOptions(num_train=12, num_val=6, seconds=1, size=32))
    options = BuildOptions(clip_seconds=1.0, short_side=32)
    labels = folder / "videos" / "labels.csv"
    for name, source, table in (
        ("train", "train", labels),
        ("val", "val", labels),
        ("bare", "val", None),
    ):
        build([folder / "videos" / source], folder / name, options, labels=table)
    return folder


def invoke(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_pretrain_and_knn_print_both_encoders_and_chance(
    method: str, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = tmp_path / f"{method}.toml", tmp_path / "run"
    text = SIMCLR.replace("SHARDS", str(labelled / "train")).replace("METHOD", method)
    config.write_text(text)
    code, output = invoke("pretrain", config, "--out", run)
    assert code == 0, output
    if method == "moco":
        checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        codes = checkpoint["state_dict"]["method.queue_codes"]
        assert sorted(codes[:, 0].unique().tolist()) == sorted(set(codes[:, 0].tolist()))
        assert (codes[:, 0] >= 0).all()  # two steps of six keys filled a queue of ten

    arguments = ("--train", labelled / "train", "--test", labelled / "val", "--segments", "2")
    code, output = invoke("evaluate", "knn", "--run", run, *arguments, "--k", "1,3")
    assert code == 0, output
    assert "k = 1 k = 3" in output
    assert re.search(r"image, after 2 steps \d+\.\d % \d+\.\d %", output)
    assert re.search(r"image, before the first step \d+\.\d % \d+\.\d %", output)
    assert "chance 16.7 % 16.7 %" in output
    assert "6 clips by the votes of 12, 6 labels, 2 segments a clip" in output
    written = json.loads((run / "knn" / "metrics.json").read_text())
    assert (written["train_clips"], written["test_clips"], written["skipped"]) == (12, 6, 0)
    for row in written["accuracies"]:
        of = {"trained": "after 2 steps", "untrained": "before the first step"}[row["encoder"]]
        (shown,) = re.findall(rf"image, {of} (\d+\.\d) % (\d+\.\d) %", output)
        assert f"{100 * row['accuracy']:.1f}" == dict(zip((1, 3), shown, strict=True))[row["k"]]
    assert [path.name for path in (run / "knn").iterdir()] == ["metrics.json"]

    damaged = shutil.copytree(labelled / "val", tmp_path / "damaged")
    (tar,) = damaged.glob("*.tar")
    content = bytearray(tar.read_bytes())
    place = content.index(b"mdat") + 64  # packets of the first video
    content[place : place + 200] = bytes(200)
    tar.write_bytes(content)
    shown_progress = []
    monkeypatch.setattr(
        "tools.evaluation.knn_report.progress_bar",
        lambda _: nullcontext(lambda *at: shown_progress.append(at)),
    )
    out = tmp_path / "out"
    code, output = invoke(
        "evaluate",
        "knn",
        "--run",
        run,
        "--train",
        labelled / "train",
        "--test",
        damaged,
        "--out",
        out,
    )
    assert code == 0, output
    assert "5 clips by the votes of 12" in output
    (line,) = (out / "skipped-test.jsonl").read_text().splitlines()  # once, though read twice
    assert json.loads(line)["stage"] == "checksum"
    assert not (out / "skipped-train.jsonl").exists()
    assert shown_progress == sorted(shown_progress)
    assert shown_progress[-1] == (36, 36)

    code, output = invoke(
        "evaluate", "knn", "--run", run, "--train", labelled / "train", "--test", labelled / "bare"
    )
    assert code == 2
    assert output.startswith("error: sample ")
    assert "has no label: build the shards with `gdt shards build … --labels FILE.csv`" in output


@pytest.mark.parametrize("k", ["", "0", "1,x", "1,,2"])
def test_k_must_be_whole_numbers(k: str, tmp_path: Path) -> None:
    code, output = invoke(
        "evaluate", "knn", "--run", tmp_path, "--train", tmp_path, "--test", tmp_path, "--k", k
    )
    assert code == 2
    assert "must be whole numbers from 1 on with commas between, like 1,5,20" in output


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    code, output = invoke(
        "evaluate", "knn", "--run", tmp_path, "--train", tmp_path, "--test", tmp_path
    )
    assert code == 1
    assert "is no run folder" in output


def test_the_report_names_modality_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    by_k = {("audio", "trained"): {1: 0.5}, ("audio", "untrained"): {1: 0.25}}
    print_report(KnnResult(by_k, 0.125, 20, 8, 4, 2, 3, step=70, out=Path("run/knn")))
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "audio, after 70 steps 50.0 % audio, before the first step 25.0 % chance 12.5 %" in shown
    assert "8 clips by the votes of 20, 4 labels, 3 segments a clip; 2 more were skipped" in shown
    assert "skipped (skipped-*.jsonl) metrics run/knn/metrics.json" in shown
