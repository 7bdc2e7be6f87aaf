"""Plans with text: what is learned from captions, and the way there from the command line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from gdt import Batch, View, named_plan
from models import EncoderOptions, RunFacts, Setting, build_method
from models.methods.gdt import GDTOptions
from pipelines.device.options import Text
from pipelines.device.tokens import Tokens, train_tokenizer
from tools.cli import app
from tools.runs.run import load_run
from tools.sample_data.synthetic import (
    SyntheticOptions,
    build_corpus,
    caption_of,
    draw_scene,
    render_video,
)

ONE_FRAME = SyntheticOptions(seconds=1.0, size=32, frames_per_second=1)
TRAINED, HELD_OUT, STEPS, ROWS = 600, 240, 100, 32
CLIP = Path(__file__).parents[3] / "configs" / "cross_modal.toml"


def gdt(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow(seconds=40)
def test_captions_are_found_by_pictures_that_were_not_trained_on(tmp_path: Path) -> None:
    scenes = [draw_scene(0, "train", number, 1.0) for number in range(TRAINED + HELD_OUT)]
    captions = [caption_of(scene).rpartition(" ")[0] for scene in scenes]  # one frame has no pace
    captions = [text.replace("rises", "").replace("sinks", "").strip() for text in captions]
    frames = np.stack([render_video(scene, ONE_FRAME)[0] for scene in scenes])
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 128 - 1
    train_tokenizer(captions, 300, tmp_path / "t.json")
    tokens = Tokens(Text(str(tmp_path / "t.json"), max_tokens=16))(captions)
    plan = named_plan("clip")
    torch.manual_seed(0)
    encoders = EncoderOptions(image="resnet_small", text="text_mini", vocab_size=300)
    facts = RunFacts(TRAINED, ROWS, TRAINED // ROWS, STEPS)
    options = GDTOptions(hidden_dim=64, embedding_dim=32, temperature=0.1)
    method = build_method(options, Setting(plan, encoders, facts))
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3)
    modality, sample = plan.names.index("modality"), plan.names.index("sample")
    for step in range(STEPS):
        rows = torch.randint(TRAINED, (ROWS,))
        codes = torch.zeros(2, ROWS, len(plan.names), dtype=torch.int64)
        codes[1, :, modality] = 1
        codes[:, :, sample] = torch.arange(ROWS)
        views = View("image", pictures[rows], codes[0]), View("text", tokens[rows], codes[1])
        loss = method(Batch(views, 0, step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    method.eval()
    kinds = sorted({scene.kind for scene in scenes})
    every_kind = [captions[[s.kind for s in scenes].index(kind)] for kind in kinds]
    with torch.no_grad():
        asked = method.embed("text", Tokens(Text(str(tmp_path / "t.json"), 16))(every_kind))
        seen = method.embed("image", pictures[TRAINED:])
    found = [kinds[i] for i in (seen @ asked.T).argmax(1).tolist()]
    share = np.mean([a == scene.kind for a, scene in zip(found, scenes[TRAINED:], strict=True)])
    assert share > 0.35, share  # of 6 kinds, of which chance finds one in six: 0.17


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("text")
    build_corpus(root / "videos", SyntheticOptions(num_train=6, num_val=4, seconds=2.0, size=48))
    labels = ("--labels", root / "videos/labels.csv", "--size", "48x48", "--clip-seconds", "2")
    for part in ("train", "val"):
        gdt("shards", "build", root / "videos" / part, "--out", root / part, *labels)
    return root


@pytest.mark.slow(seconds=40)
@pytest.mark.parametrize("picture", ["video", "image"])
def test_from_captioned_videos_to_retrieval(shards: Path, tmp_path: Path, picture: str) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    said = gdt("tokenizer", "train", shards / "train", "--out", tokenizer, "--vocab-size", "280")
    assert "tokens from 6 captions of 6 samples" in said
    settings = (
        f"data.shards={shards / 'train'}",
        "data.batch_size=3",
        f'plan.modality.values=["{picture}", "text"]',
        f"text.tokenizer={tokenizer}",
        "segment.num_frames=" + ("4" if picture == "video" else "1"),
        "video_augment.size=32",
        "image_augment.size=32",
        "encoders.video=r2plus1d_small",
        "encoders.image=resnet_small",
        "encoders.text=text_mini",
        "encoders.vocab_size=280",
        "method.hidden_dim=16",
        "method.embedding_dim=8",
        "trainer.epochs=1",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "trainer.sync_batch_norm=false",
    )
    overrides = [part for setting in settings for part in ("--set", setting)]
    run = tmp_path / "run"
    gdt("pretrain", CLIP, *overrides, "--out", run)
    tokenizer.unlink()  # the run has its own
    assert load_run(run).config.text.tokenizer == str(run / "tokenizer.json")
    out = gdt("evaluate", "retrieval", "--run", run, "--shards", shards / "val")
    assert f"{picture} → text" in out
    assert f"text → {picture}" in out
    (page,) = run.rglob("index.html")
    assert "“a " in page.read_text()


def test_a_table_of_fewer_tokens_than_the_tokenizers_is_refused(
    shards: Path, tmp_path: Path
) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    train_tokenizer(["a disc"], 300, tokenizer)
    arguments = [
        "pretrain",
        str(CLIP),
        "--set",
        f"data.shards={shards / 'train'}",
        "--set",
        "data.batch_size=3",
        "--set",
        'plan.modality.values=["video", "text"]',
        "--set",
        f"text.tokenizer={tokenizer}",
        "--set",
        "encoders.vocab_size=200",
        "--out",
        str(tmp_path / "run"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert "encoders.vocab_size = 200, and" in " ".join(result.stderr.split())
    assert not (tmp_path / "run").exists()
