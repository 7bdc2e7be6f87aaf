"""From a run folder and shards to numbers, embeddings and a page, on six tiny videos."""

import json
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models import build_method
from pipelines.sampling.mixture import Mixture
from shards import BuildOptions, Dataset, Samples, ShardError
from shards.building.build import build as build_shards
from shards.maintenance.index_tars import index_tars
from tools.cli import app
from tools.commands import evaluate
from tools.evaluation.embeddings import ClipEmbeddings, EmbeddingsError
from tools.evaluation.retrieval import rank_pairs
from tools.evaluation.retrieval_report import evaluate_retrieval
from tools.runs.config import load_config
from tools.runs.run import load_run
from tools.runs.run_folder import RunError
from tools.sample_data.synthetic import SyntheticOptions, build_corpus

CONFIG = """
[data]
shards = "unused"
[segment]
num_frames = 4
[plan.sample]
relation = "distinctive"
[plan.modality]
relation = "invariant"
values = ["video", "audio"]
pairs = "cross"
[video_augment]
size = 32
[model]
method = "gdt"
video = "r2plus1d_small"
audio = "resnet9_small"
hidden_dim = 16
embedding_dim = 8
[optimizer]
learning_rate = 0.1
[trainer]
epochs = 1
"""
IMAGE_PLAN = """
[plan.sample]
relation = "distinctive"
[plan.modality]
relation = "invariant"
values = ["image"]
[plan.augmentation]
relation = "invariant"
draws = 2
"""
NUM_CLIPS = 6


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    build_corpus(folder, SyntheticOptions(num_train=0, num_val=NUM_CLIPS, seconds=2.0, size=32))
    options = BuildOptions(clip_seconds=2.0, size=(32, 32))
    labels = folder / "labels.csv"
    build_shards([folder / "val"], folder / "shards", options, num_workers=1, labels=labels)
    return folder / "shards"


def make_run(folder: Path, config: str = CONFIG, trained_on: str = "others") -> Path:
    """A run folder as `gdt pretrain` leaves it, with the weights that it began with."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    loaded = load_config(folder / "config.toml")
    torch.manual_seed(0)
    method = build_method(loaded.model, loaded.build_plan())
    weights = {f"method.{name}": value for name, value in method.state_dict().items()}
    checkpoint = {"state_dict": weights, "global_step": 7, "trained_on": trained_on}
    torch.save(checkpoint, folder / "checkpoints" / "last.ckpt")
    return folder


def test_command_writes_numbers_embeddings_and_page(tmp_path: Path, shards: Path) -> None:
    run = make_run(tmp_path / "run")
    arguments = ["retrieval", "--run", str(run), "--shards", str(shards), "--device", "cpu"]
    result = CliRunner().invoke(evaluate.app, [*arguments, "--queries", "3", "--hits", "2"])
    assert result.exit_code == 0, result.output
    assert re.search(r"chance +16\.7 % +83\.3 % +100\.0 % +3\.5", result.output)
    assert "6 clips, 5 segments a clip" in result.output
    assert "trained on these very clips" not in result.output

    out = run / "retrieval"
    written = json.loads((out / "metrics.json").read_text())
    assert written["chance"]["R@1"] == pytest.approx(1 / 6)
    assert written["step"] == "7"
    embeddings = ClipEmbeddings.load(out / "embeddings.safetensors")
    assert embeddings.modalities["audio"].shape == (NUM_CLIPS, 8)
    lengths = np.linalg.norm(embeddings.modalities["video"], axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-6)
    # the saved embeddings give the printed numbers again
    again = rank_pairs(embeddings.modalities["video"], embeddings.modalities["audio"]).metrics()
    assert written["metrics"]["video → audio"] == pytest.approx(again)
    page = (out / "index.html").read_text()
    assert page.count("<article>") == 2 * 3
    assert page.count("✓ right") == 2 * 3
    assert all(key in page for key in (embeddings.keys[0], embeddings.keys[-1]))
    assert "disc, 0:00.0 in val_00000.mp4" in page
    assert not (out / "skipped.jsonl").exists()


def test_embeddings_do_not_depend_on_batches(tmp_path: Path, shards: Path) -> None:
    run = make_run(tmp_path / "run")
    found = []
    for name, batch_size in (("one", 1), ("all", 16)):
        evaluate_retrieval(run, shards, tmp_path / name, batch_size=batch_size, device="cpu")
        found.append(ClipEmbeddings.load(tmp_path / name / "embeddings.safetensors"))
    assert found[0].keys == found[1].keys
    for modality in ("audio", "video"):
        one, both = (embeddings.modalities[modality] for embeddings in found)
        np.testing.assert_allclose(one, both, atol=1e-5)


def test_damaged_clip_is_skipped_and_named(tmp_path: Path, shards: Path) -> None:
    copy = tmp_path / "shards"
    copy.mkdir()
    for path in shards.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    tar = next(copy.glob("*.tar"))
    content = bytearray(tar.read_bytes())
    place = content.index(b"mdat") + 64  # packets of the first video
    content[place : place + 200] = bytes(200)
    tar.write_bytes(content)
    run = make_run(tmp_path / "run")
    result = evaluate_retrieval(run, copy, tmp_path / "out", device="cpu")
    assert (result.num_clips, result.num_skipped) == (NUM_CLIPS - 1, 1)
    assert result.chance["R@1"] == 1 / (NUM_CLIPS - 1)
    entry = json.loads((tmp_path / "out" / "skipped.jsonl").read_text())
    assert entry["stage"] == "checksum"


@pytest.mark.parametrize(
    ("segment", "data", "message"),
    [
        ('decoder = "dali"', "isolate = true", "data.isolate: decoder = 'dali' decodes whole"),
        ('decoder = "films"', "", "decoder = 'films' is unknown"),
        ('decoder = "nvdec"', "", "'nvdec' needs"),
    ],
)
def test_what_clips_or_machine_do_not_have_is_one_message(
    tmp_path: Path,
    shards: Path,
    monkeypatch: pytest.MonkeyPatch,
    segment: str,
    data: str,
    message: str,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = CONFIG.replace("[data]", f"[data]\n{data}").replace(
        "[segment]", f"[segment]\n{segment}"
    )
    run = make_run(tmp_path / "run", config)
    arguments = ["evaluate", "retrieval", "--run", str(run), "--shards", str(shards)]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 2, result.output
    assert result.stderr.strip().startswith("error: the config asks for what cannot be had: ")
    assert message in result.stderr


def test_clips_of_two_sizes_are_one_message(tmp_path: Path, shards: Path) -> None:
    """As merged builds, or tars of others, may hold them."""
    build_corpus(tmp_path, SyntheticOptions(num_train=0, num_val=1, seconds=2.0, size=32))
    options = BuildOptions(clip_seconds=2.0, size=(48, 32))
    build_shards([tmp_path / "val"], tmp_path / "wide", options, num_workers=1)
    both = tmp_path / "both"
    both.mkdir()
    for number, folder in enumerate((tmp_path / "wide", shards)):
        for tar in folder.glob("*.tar"):
            name = both / f"shard-{number:06d}.tar"
            with tarfile.open(tar) as members, tarfile.open(name, "w") as copy:
                for member in members:
                    content = members.extractfile(member)
                    member.name = f"{number}{member.name}"
                    copy.addfile(member, content)
    index_tars([both])
    run = make_run(tmp_path / "run")
    arguments = ["evaluate", "retrieval", "--run", str(run), "--shards", str(both)]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert result.exit_code == 2, result.output
    message = " ".join(result.stderr.split())
    assert message.startswith("error: shard-000001.tar: sample ")
    assert "is 32×32, and the first of the data set is 48×32: set segment.frame_size" in message


def test_a_run_of_images_is_told_what_to_use(tmp_path: Path, shards: Path) -> None:
    start, stop = CONFIG.index("[plan.sample]"), CONFIG.index("[video_augment]")
    config = CONFIG[:start] + IMAGE_PLAN + CONFIG[stop:]
    config = config.replace('"gdt"', '"simclr"').replace("num_frames = 4", "num_frames = 1")
    run = make_run(tmp_path / "run", config)
    with pytest.raises(RunError, match=r"modalities image; .* use `gdt evaluate knn`"):
        evaluate_retrieval(run, shards, tmp_path / "out")


@pytest.mark.parametrize("is_mixed", [False, True])
def test_clips_that_the_run_was_trained_on_are_no_test(
    tmp_path: Path, shards: Path, is_mixed: bool
) -> None:
    trained: Samples = Dataset.open(shards)
    if is_mixed:
        trained = Mixture({"films": trained, "others": trained}, {"films": 1, "others": 2})
    run = make_run(tmp_path / "run", trained_on=trained.fingerprint)
    arguments = ["retrieval", "--run", str(run), "--shards", str(shards), "--queries", "1"]
    result = CliRunner().invoke(evaluate.app, arguments)
    assert result.exit_code == 0, result.output
    assert "The run was trained on these very clips" in result.output
    out = run / "retrieval"
    assert json.loads((out / "metrics.json").read_text())["trained_on_these"] is True
    assert "trained on these very clips" in (out / "index.html").read_text()


def test_what_is_no_checkpoint_or_device_is_said(tmp_path: Path, shards: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"--device tpu9: there is no such device here"):
        evaluate_retrieval(run, shards, tmp_path / "out", device="tpu9")
    checkpoint = run / "checkpoints" / "last.ckpt"
    whole = checkpoint.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no checkpoint", pickle.dumps(print)):
        checkpoint.write_bytes(content)
        with pytest.raises(RunError, match=r"last\.ckpt cannot be read as a checkpoint"):
            load_run(run)
    torch.save({"state_dict": {}}, checkpoint)
    with pytest.raises(RunError, match="is no checkpoint of this `gdt pretrain`"):
        load_run(run)
    torch.save({"state_dict": {}, "global_step": 1, "trained_on": ""}, checkpoint)
    with pytest.raises(RunError, match=r"does not belong to .*config\.toml"):
        load_run(run)


def test_missing_run_and_missing_shards(tmp_path: Path, shards: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        evaluate_retrieval(tmp_path, shards, tmp_path / "out")
    run = make_run(tmp_path / "run")
    with pytest.raises(ShardError):
        evaluate_retrieval(run, tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_embeddings_refuse_what_does_not_fit(tmp_path: Path) -> None:
    rows = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="audio has 2 rows, and there are 1 keys"):
        ClipEmbeddings(("a",), np.array([0]), {"audio": rows}, {})
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    with pytest.raises(EmbeddingsError, match="cannot read clip embeddings"):
        ClipEmbeddings.load(text)
    from safetensors.numpy import save_file

    save_file({"x": rows}, tmp_path / "other.safetensors")
    with pytest.raises(EmbeddingsError, match=r"format and version are \(None, None\)"):
        ClipEmbeddings.load(tmp_path / "other.safetensors")


def test_embeddings_print_shapes() -> None:
    rows = np.ones((1, 3), np.float32)
    embeddings = ClipEmbeddings(("a",), np.array([0]), {"audio": rows}, {})
    assert repr(embeddings) == "ClipEmbeddings(1 clips, audio [1, 3])"
