"""Configs of sound, words and worlds train, two steps each, on what their data is made of."""

from pathlib import Path

import pytest
import torch

from pipelines.device.tokens import train_tokenizer
from shards import BuildOptions
from shards.building.build import build
from tools import fit
from tools.runs.losses import read_loss_file
from tools.runs.run import load_run
from tools.sample_data.blocks import BlocksOptions, build_blocks
from tools.sample_data.synthetic import SyntheticOptions, build_corpus

SMALL_FRAMES = ("segment.num_frames=4", "video_augment.size=32")
WORDS = ("data.shards=CAPTIONED", "text.tokenizer=TOKENIZER", *SMALL_FRAMES)
BANKS = ("data.shards=CAPTIONED", *SMALL_FRAMES, "segment.seconds=0.5", "method.num_negatives=4")
DECODER = ("method.decoder_depth=1",)
#: What is smaller here than in a config.
OVERRIDES: dict[str, tuple[str, ...]] = {
    "clip": WORDS,
    "siglip": WORDS,
    "coca": (*WORDS, *DECODER),
    "contrastive_captioning": (*WORDS, *DECODER),
    "simcse": ("data.shards=SENTENCES", "text.tokenizer=TOKENIZER", "encoders.vocab_size=300"),
    "cpc": ("data.shards=CAPTIONED", "data.group_by=label", "segment.seconds=0.5"),
    "cpc_image": ("data.shards=CAPTIONED", "image_augment.size=8"),
    "avid": (*BANKS, "segment.audio_seconds=1.0"),
    "cma": (*BANKS, "segment.audio_seconds=1.0", "method.num_positives=2", "method.num_within=3"),
    "selavi": ("data.shards=CAPTIONED", *SMALL_FRAMES, "method.num_clusters=3"),
    "videomae": ("data.shards=CAPTIONED", *SMALL_FRAMES),
    "cswm": ("data.shards=BLOCKS",),
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Eight clips with captions, four episodes of blocks, eight sentences, and a tokenizer."""
    root = tmp_path_factory.mktemp("material")
    build_corpus(root / "films", SyntheticOptions(num_train=8, num_val=0, seconds=1.5, size=32))
    films = BuildOptions(clip_seconds=1.5, size=(32, 32))
    labels = root / "films" / "labels.csv"
    build([root / "films/train"], root / "captioned", films, labels=labels, num_workers=1)
    build_blocks(root / "boards", BlocksOptions(num_train=4, num_val=0))
    boards = BuildOptions(clip_seconds=1.1, fps=10.0, size=(80, 80), require=())
    labels = root / "boards" / "labels.csv"
    build([root / "boards/train"], root / "blocks", boards, labels=labels, num_workers=1)
    sentences = [
        f"a {size} {shape} {way}"
        for size in ("small", "large")
        for shape in ("disc", "ring")
        for way in ("rises", "sinks")
    ]
    (root / "sentences.tsv").write_text("\n".join(sentences))
    train_tokenizer(sentences, 300, root / "tokenizer.json")
    return {
        "CAPTIONED": root / "captioned",
        "BLOCKS": root / "blocks",
        "SENTENCES": root / "sentences.tsv",
        "TOKENIZER": root / "tokenizer.json",
    }


@pytest.mark.slow(seconds=30)
@pytest.mark.parametrize("name", list(OVERRIDES))
def test_a_config_trains(name: str, material: dict[str, Path], tmp_path: Path) -> None:
    overrides = []
    for override in OVERRIDES[name]:
        key, _, value = override.partition("=")
        overrides.append(f"{key}={material.get(value, value)}")
    overrides += ["data.batch_size=4", "trainer.max_steps=2", "trainer.loggers=[]"]
    fit(name, tmp_path / "run", overrides=overrides)
    losses = [line.loss for line in read_loss_file(tmp_path / "run" / "logs" / "losses.csv")]
    assert len(losses) == 2
    assert all(0 <= loss < 1e4 for loss in losses)
    run = load_run(tmp_path / "run")
    assert run.step == 2
    for parameter in run.method.parameters():
        assert torch.isfinite(parameter).all()
