"""Run folders with the weights that they began with, and small labelled shards, for tests."""

from dataclasses import asdict
from pathlib import Path

import torch

from models import RunFacts, Setting, build_method
from tools.runs.config import load_config

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
[method]
name = "gdt"
hidden_dim = 16
embedding_dim = 8
[encoders]
video = "r2plus1d_small"
audio = "resnet9_small"
[optimizer]
learning_rate = 0.1
[trainer]
epochs = 1
"""
#: A run of texts; TOKENIZER stands for its file.
TEXT_CONFIG = """
[data]
shards = "unused"
[plan.sample]
relation = "distinctive"
[plan.modality]
relation = "invariant"
values = ["text"]
[plan.augmentation]
relation = "invariant"
draws = 2
[text]
tokenizer = "TOKENIZER"
max_tokens = 9
[method]
name = "simcse"
[encoders]
text = "text_mini"
vocab_size = 300
dropout = 0.1
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


def image_config() -> str:
    """A run of images in place of films."""
    start, stop = CONFIG.index("[plan.sample]"), CONFIG.index("[video_augment]")
    config = CONFIG[:start] + IMAGE_PLAN + CONFIG[stop:]
    return config.replace('"gdt"', '"simclr"').replace("num_frames = 4", "num_frames = 1")


def make_run(folder: Path, config: str = CONFIG, trained_on: str = "others", seed: int = 1) -> Path:
    """A run folder as `gdt pretrain` leaves it, after 7 steps that came to weights of `seed`."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.toml").write_text(config)
    loaded = load_config(folder / "config.toml")
    torch.manual_seed(seed)
    facts = RunFacts(6, batch_size=2, steps_per_epoch=3, num_steps=7)
    setting = Setting(loaded.build_plan(), loaded.encoders, facts)
    method = build_method(loaded.method, setting)
    weights = {f"method.{name}": value for name, value in method.state_dict().items()}
    checkpoint = {"state_dict": weights, "global_step": 7, "trained_on": trained_on}
    checkpoint |= {"run_facts": asdict(facts)}
    torch.save(checkpoint, folder / "checkpoints" / "last.ckpt")
    return folder


def damage_first_video(shards: Path) -> None:
    """Zero some packets of the first video of the one shard in a folder."""
    (tar,) = shards.glob("*.tar")
    content = bytearray(tar.read_bytes())
    place = content.index(b"mdat") + 64
    content[place : place + 200] = bytes(200)
    tar.write_bytes(content)
