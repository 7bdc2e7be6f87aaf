"""A model learns the arrow of time where c asks it to, and loses it where c asks that."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.factor_trial import (
    Clips,
    Corpus,
    Floats,
    new_method,
    own_direction,
    own_segment,
    rows_of,
    train,
)
from gdt import named_plan, normalize
from pipelines.loading.raw_batch import RawBatch
from tools.sample_data.synthetic import KINDS
from tools.sample_data.timeline import FORM, draw_scene, render_audio, render_video

CORPUS = Corpus("timeline", Path(), Path(), 1.0, 8, places=4, places_apart=1)
RATE = 24_000


def rendered(folder: str, count: int) -> Clips:
    """Four segments of each scene as they are drawn: no file is written, none decoded."""
    every = FORM.frames_per_second // CORPUS.num_frames
    scenes = [draw_scene(0, folder, number) for number in range(count)]
    frames = np.stack([render_video(scene)[::every] for scene in scenes])
    at_rate = np.arange(4 * RATE) / RATE * FORM.sample_rate_hz
    sound = [render_audio(scene) for scene in scenes]
    sound = [np.interp(at_rate, np.arange(len(s)), s).astype(np.float32) for s in sound]
    zeros = torch.zeros(4 * count, dtype=torch.int64)
    raw = RawBatch(
        frames=torch.from_numpy(frames).flatten(0, 1).unflatten(0, (-1, CORPUS.num_frames)),
        audio=torch.from_numpy(np.concatenate(sound)).view(-1, RATE),
        sample=zeros,
        shift=zeros,
        start_seconds=zeros.double(),
        keys=("",) * len(zeros),
        height=FORM.size,
        width=FORM.size,
        color_matrix="bt601",
        color_range="full",
        sample_rate_hz=RATE,
        epoch=0,
        step=0,
        pixels="rgb_bt601",
    )
    return Clips([raw], 4, np.array([KINDS.index(scene.kind) for scene in scenes]))


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.slow(seconds=25)
@pytest.mark.timeout(600)
def test_reversal_is_told_apart_only_where_it_is_distinctive() -> None:
    clips, held_out = rendered("train", 96), rendered("val", 48)
    untrained = new_method(named_plan("v_reversal"), len(clips), seed=0, steps=1).eval()
    found = {"untrained": own_direction(rows_of(untrained, held_out)["embeddings"])}
    for name in ("v_reversal", "i_reversal"):
        method = train(name, CORPUS, clips, seed=0, steps=150)
        found[name] = own_direction(rows_of(method, held_out)["embeddings"])
    assert found["v_reversal"] > 0.8
    assert 0.4 < found["i_reversal"] < 0.6
    assert 0.4 < found["untrained"] < 0.6


def test_questions_by_hand() -> None:
    rng = np.random.default_rng(0)
    drawn = torch.from_numpy(rng.normal(size=(5, 4, 2, 16)).astype(np.float32))
    video: Floats = normalize(drawn).numpy()
    own = {"video": video, "audio": video}
    assert own_direction(own) == own_segment(own) == 1.0
    backwards = {"video": video, "audio": video[:, :, ::-1]}
    assert own_direction(backwards) == 0.0
    turned = {"video": video, "audio": np.roll(video, 1, axis=1)}
    assert own_segment(turned) == 0.0
    blind = {"video": video, "audio": np.repeat(video[:, :, :1], 2, axis=2)}
    assert own_direction(blind) == pytest.approx(0.5)
