"""Labels by their words: against embeddings compared by hand, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.device.tokens import train_tokenizer
from tests.tools.commands.test_evaluate import refuse, results, succeed
from tests.tools.evaluation.runs import CONFIG, make_run
from tools.evaluation.encoders import trained_encoder
from tools.evaluation.errors import EvaluationError
from tools.evaluation.tasks.zero_shot import ZeroShot
from tools.runs.run import load_run


@pytest.fixture(scope="module")
def reading_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of video and text."""
    folder = tmp_path_factory.mktemp("reading")
    train_tokenizer(["a video of b"], 270, folder / "t.json")
    config = CONFIG.replace('["video", "audio"]', '["video", "text"]')
    config = config.replace("[encoders]", '[encoders]\ntext = "text_mini"\nvocab_size = 270')
    return make_run(folder / "run", config + f'[text]\ntokenizer = "{folder / "t.json"}"\n')


def test_clips_are_nearest_to_the_words_that_a_slow_comparison_says(
    reading_run: Path, corpus: Path
) -> None:
    prompts = ("--prompt", "a video of {}", "--prompt", "{}, a clip")
    succeed("zero-shot", "--run", reading_run, "--test", corpus / "val", *prompts)
    (found,) = results(reading_run, "zero-shot")
    assert {s.of for s in found.scores} == {"video", ""}
    assert found.value("", "top-1", "chance") == pytest.approx(1 / 3)
    assert found.settings["prompts"] == ["a video of {}", "{}, a clip"]
    run = load_run(reading_run)
    tokens = run.device_transform.tokens
    assert tokens is not None
    vectors = []
    with torch.inference_mode():
        for label in "abc":
            both = run.method.embed("text", tokens([f"a video of {label}", f"{label}, a clip"]))
            vectors.append(torch.nn.functional.normalize(both.mean(0), dim=0).numpy())
    (store,) = (reading_run / "embeddings").glob("trained-step7-embeddings-*")
    clips = np.load(store / "video.npy").mean(axis=1)
    answers = (clips @ np.stack(vectors).T).argmax(axis=1)
    truth = [n % 3 for n in range(6)]
    assert found.value("video", "top-1") == pytest.approx(float((answers == truth).mean()))


def test_what_has_no_words_is_refused(reading_run: Path, run: Path, corpus: Path) -> None:
    said = refuse("zero-shot", "--run", run, "--test", corpus / "val")
    assert "has encoders for video, audio: zero-shot needs one for text" in said
    said = refuse("zero-shot", "--run", reading_run, "--test", corpus / "val", "--prompt", "a clip")
    assert "--prompt 'a clip': must hold {} once, where the label goes" in said
    reading = load_run(reading_run)
    task = ZeroShot.of(reading, ["{}"])
    assert task.vectors_of(["a", "b"], trained_encoder(reading)).shape == (2, 8)
    with pytest.raises(EvaluationError, match=r"must hold \{\} once"):
        ZeroShot.of(reading, ["{} and {}"])
