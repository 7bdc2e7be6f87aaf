"""`gdt export` in its three forms, each compared with the run's own encoder."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models import load_encoder
from models.encoder_file import describe_encoder
from pipelines.device.options import LogMel, Text
from pipelines.device.tokens import Tokens, train_tokenizer
from tests.tools.evaluation.runs import TEXT_CONFIG, make_run
from tools.cli import app
from tools.runs.export import export_encoder
from tools.runs.run import load_run
from tools.runs.take_over import take_over
from tools.runs.weights import initialize, read_weights

ROWS = {"video": (3, 3, 4, 32, 32), "audio": (3, 1, 40, 99)}


def gdt(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, re.sub(r"\s+", " ", result.output)


def features(run: Path, modality: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows, another number than the graph was traced with, and what the run makes of them."""
    values = torch.randn(ROWS[modality])
    with torch.inference_mode():
        return values, load_run(run).method.features(modality, values)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_weights_are_loaded_without_the_run(run: Path, tmp_path: Path, modality: str) -> None:
    out = tmp_path / "taken home" / "encoder.safetensors"
    code, text = gdt("export", run, "--modality", modality, "--out", out)
    assert code == 0, text
    values, wanted = features(run, modality)
    with torch.inference_mode():
        torch.testing.assert_close(load_encoder(out)(values), wanted)
    about = describe_encoder(out)
    assert about.facts["step"] == 7
    assert about.facts["trained_on"] == "others"
    card = out.with_name("encoder.safetensors.md").read_text()
    assert f"# {modality} encoder {about.name}, 7 steps" in card
    assert "| data set (fingerprint) | others |" in card
    assert "| modality | relation = invariant" in card
    assert 'encoder = load_encoder("encoder.safetensors")' in card

    other = load_run(run).method
    for weights in other.parameters():
        weights.data.zero_()
    line = initialize(other, read_weights(str(out)))
    assert f"{modality} encoder; as drawn" in line
    with torch.inference_mode():
        torch.testing.assert_close(other.features(modality, values), wanted)


def test_how_spectrograms_were_made_travels_with_the_file(run: Path, tmp_path: Path) -> None:
    loaded, out = load_run(run), tmp_path / "encoder.safetensors"
    log_mel = LogMel(sample_rate_hz=8000, window_samples=256, top_db=40.0, normalize="clip")
    changed = replace(loaded, config=loaded.config.model_copy(update={"log_mel": log_mel}))
    export_encoder(changed, "audio", out)
    taken = take_over({"segment": {"num_frames": 4}}, str(out))
    assert LogMel(**taken["log_mel"]) == log_mel
    assert taken["segment"] == {"seconds": 1.0, "sample_rate_hz": 8000, "num_frames": 4}
    assert "normalize = clip" in out.with_name("encoder.safetensors.md").read_text()


@pytest.mark.slow(seconds=10)
def test_torch_export_runs_with_any_number_of_rows(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder.pt2"
    code, text = gdt("export", run, "--modality", "video", "--out", out)
    assert code == 0, text
    values, wanted = features(run, "video")
    with torch.inference_mode():
        found = torch.export.load(out).module()(values)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow(seconds=20)
def test_onnx_runs_with_any_number_of_rows(run: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    out = tmp_path / "encoder.onnx"
    code, text = gdt("export", run, "--modality", "audio", "--out", out)
    assert code == 0, text
    values, wanted = features(run, "audio")
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"values": values.numpy()})
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in tmp_path.glob("*onnx*")) == [
        "encoder.onnx",
        "encoder.onnx.md",
    ]


@pytest.fixture
def text_run(tmp_path: Path) -> Path:
    """A run of texts, with its tokenizer."""
    tokenizer = tmp_path / "tokenizer.json"
    train_tokenizer(["a red disc", "some blue square"], 300, tokenizer)
    found = make_run(tmp_path / "run", TEXT_CONFIG.replace("TOKENIZER", str(tokenizer)))
    (found / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    return found


@pytest.mark.slow(seconds=6)
def test_a_text_encoder_goes_with_its_tokenizer(text_run: Path, tmp_path: Path) -> None:
    for name in ("words.safetensors", "words.pt2"):
        code, said = gdt("export", text_run, "--modality", "text", "--out", tmp_path / name)
        assert code == 0, said
    tokens = Tokens(Text(tokenizer=str(tmp_path / "words.pt2.tokenizer.json"), max_tokens=9))
    values = tokens(["a red disc", "a blue square", "discs"])
    with torch.inference_mode():
        wanted = load_run(text_run).method.features("text", values)
        loaded = load_encoder(tmp_path / "words.safetensors")(values)
        graph = torch.export.load(tmp_path / "words.pt2").module()(values)
    torch.testing.assert_close(loaded, wanted)
    torch.testing.assert_close(graph, wanted, rtol=1e-4, atol=1e-5)
    card = (tmp_path / "words.pt2.md").read_text()
    assert "| max_tokens | 9 |" in card
    assert 'Tokenizer.from_file("words.pt2.tokenizer.json")' in card


def test_what_a_method_adds_to_its_encoder_is_said(text_run: Path, tmp_path: Path) -> None:
    toml = TEXT_CONFIG.replace('"simcse"', '"simcse"\npooler = "avg"')
    other = make_run(tmp_path / "avg", toml.replace("TOKENIZER", str(tmp_path / "tokenizer.json")))
    (other / "tokenizer.json").write_bytes((text_run / "tokenizer.json").read_bytes())
    out = tmp_path / "words.safetensors"
    code, said = gdt("export", other, "--modality", "text", "--out", out)
    assert code == 0, said
    why = "a text's features are the mean of its tokens, not its first one"
    assert (
        f"What `gdt evaluate` scores of simcse is not this encoder's output as it is: {why}" in said
    )
    assert why in (tmp_path / "words.safetensors.md").read_text()


def test_a_text_encoder_without_its_tokenizer_is_refused(text_run: Path, tmp_path: Path) -> None:
    (text_run / "tokenizer.json").unlink()
    out = tmp_path / "words.pt2"
    code, said = gdt("export", text_run, "--modality", "text", "--out", out)
    assert code == 1
    assert "without the tokenizer that it learned with" in said
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--modality", "image", "--out", "a.safetensors"), "has no encoder for 'image': its plan"),
        (("--modality", "video", "--out", "a.pth"), "one of .safetensors, .pt2, .onnx"),
        (
            ("--modality", "video", "--out", "a.pt2", "--checkpoint", "best"),
            "has no best checkpoint: nothing was validated",
        ),
    ],
)
def test_what_cannot_be_had_is_said(run: Path, arguments: tuple[str, ...], message: str) -> None:
    code, text = gdt("export", run, *arguments)
    assert code == 1
    assert message in text
