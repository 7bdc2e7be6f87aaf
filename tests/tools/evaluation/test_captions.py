"""Captions that a run writes: what its method does, in words, clip by clip; runs without any."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from models.methods import CoCa
from pipelines.device.tokens import train_tokenizer
from pipelines.loading.evaluation import evaluation_batches
from shards import open_samples
from tests.tools.evaluation.runs import CONFIG, make_run
from tools.cli import app
from tools.evaluation.captions import Captioned
from tools.evaluation.embeddings import device_transform
from tools.runs.run import load_run

COCA = """
[text]
tokenizer = "TOKENIZER"
max_tokens = 9
[method]
name = "coca"
embedding_dim = 8
num_queries = 2
decoder_depth = 1
num_heads = 2
[encoders]
video = "r2plus1d_small"
text = "text_mini"
vocab_size = 300
[optimizer]
learning_rate = 0.1
[trainer]
epochs = 1
"""


@pytest.fixture
def coca(tmp_path: Path) -> Path:
    """A run of CoCa that has learned nothing."""
    tokenizer = tmp_path / "tokenizer.json"
    train_tokenizer(["a small ring rises slowly", "a large disc sinks fast"], 300, tokenizer)
    config = CONFIG[: CONFIG.index("[method]")].replace('"audio"', '"text"')
    return make_run(tmp_path / "run", config + COCA.replace("TOKENIZER", str(tokenizer)))


@pytest.mark.slow(seconds=6)
def test_captions_are_what_the_method_writes(coca: Path, tiny_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "captions.jsonl"
    asked = ("--run", coca, "--shards", tiny_shards, "--out", out, "--shown", 2)
    found = CliRunner().invoke(app, ["caption", *map(str, asked)])
    assert found.exit_code == 0, found.output
    assert "captions of 14 clips; 0 of 0 are the given one" in found.output
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    run, dataset = load_run(coca), open_samples(tiny_shards)
    assert [line["key"] for line in lines] == [dataset.sample(n).key for n in range(14)]
    assert {tuple(line["given"]) for line in lines} == {()}
    tokens, transform = run.device_transform.tokens, device_transform(run, ("video",))
    assert tokens is not None
    assert isinstance(run.method, CoCa)
    (raw,) = evaluation_batches(dataset, ("video",), run.config.segment, batch_size=14)
    with torch.inference_mode():
        rows = run.method.caption(transform(raw).view("video").values, 1, 2, 9)
    assert [line["caption"] for line in lines] == [tokens.words(row) for row in rows.tolist()]


def test_a_caption_is_the_given_one_whatever_its_case() -> None:
    assert Captioned("a", "a red disc", ("A disc", "A red  Disc")).is_given
    assert not Captioned("a", "a red disc", ("a disc",)).is_given


def test_a_run_that_writes_none_is_refused(run: Path, tiny_shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "captions.jsonl"
    asked = ("--run", run, "--shards", tiny_shards, "--out", out)
    found = CliRunner().invoke(app, ["caption", *map(str, asked)])
    assert found.exit_code == 2
    assert "a run of gdt, which writes no captions; coca" in " ".join(found.output.split())
    assert not out.exists()
