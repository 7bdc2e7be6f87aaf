"""`gdt finetune` on a tiny labelled corpus: what it takes over, what learns, the test after it."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from models import ENCODERS, load_classifier, load_encoder
from models.encoder_file import EncoderFileError, describe_encoder
from tests.shards.reading.test_sound_folder import write_wav
from tests.tools.evaluation.runs import image_config, make_run
from tests.tools.training.test_fit import stop_after
from tools.cli import app
from tools.evaluation.result import Evaluation
from tools.runs.config import load_config
from tools.runs.losses import read_losses
from tools.runs.run import load_run
from tools.runs.weights import encoder_names

SHORT = ("--set", "trainer.epochs=2", "--set", "data.batch_size=6", "--set", "trainer.loggers=[]")
SOUND = ("--modality", "audio", *SHORT)


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output).strip()


def succeed(*arguments: object) -> str:
    code, output = invoke(*arguments)
    assert code == 0, output
    return output


def result_of(run: Path) -> Evaluation:
    (found,) = (run / "evaluation" / "classification").glob("*/metrics.json")
    return Evaluation.read(found)


def test_a_video_encoder_is_fine_tuned_and_tested_in_crops(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    sets = ("--train", corpus / "train", "--test", corpus / "val")
    output = succeed("finetune", "--run", run, *sets, "--out", out, *SHORT, "--segments", "2")
    assert f"weights of {run}: video encoder; as drawn: video head" in output
    config = load_config(out / "config.toml")
    assert (config.encoders.video, config.video_augment.size) == ("r2plus1d_small", 32)  # the run's
    assert config.segment.num_frames == 4
    assert config.method.name == "classifier"
    assert len(read_losses(out)) == 4
    found = result_of(out)
    assert {(s.of, s.encoder, s.metric) for s in found.scores} == {
        ("video", "trained", "top-1"),
        ("", "chance", "top-1"),
    }
    assert found.value("", "top-1", "chance") == pytest.approx(1 / 3)
    assert found.settings["aggregation"] == "mean of logits"
    assert (found.settings["places"], found.settings["crops"]) == ([0.0, 1.0], 3)
    assert found.run["begun_from"] == str(run)
    assert found.run["step"] == 4  # the last one, whatever it scores
    assert found.data["test"].clips == 6
    assert "left out top-5: there are 3 classes: every answer holds the right one" in output
    (store,) = (out / "embeddings").glob("trained-step4-logits-*")
    facts = json.loads((store / "about.json").read_text())
    assert (facts["crops"], facts["clips"]) == (3, 6)
    trained, before = load_run(out).method.state_dict(), load_run(run).method.state_dict()
    name = "towers.encoders.video.trunk.0.0.weight"
    assert not torch.equal(trained[name], before[name])


def test_a_linear_layer_leaves_the_encoder_as_it_is(
    run: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "linear"
    succeed(
        *("finetune", "--run", run, "--linear", "--train", corpus / "train"),
        *("--test", corpus / "val", "--out", out, *SOUND),
    )
    trained, before = load_run(out).method.state_dict(), load_run(run).method.state_dict()
    encoder = [name for name in trained if name.startswith("towers.encoders.")]
    assert encoder
    assert all(torch.equal(trained[name], before[name]) for name in encoder)
    assert trained["towers.heads.audio.fc.bias"].any()
    found = result_of(out)
    assert "crops" not in found.settings  # of sound there are none
    assert found.value("audio", "top-1") == pytest.approx(
        classified_by_hand(out, corpus / "val"), abs=1e-9
    )


def classified_by_hand(out: Path, shards: Path) -> float:
    """Top-1 of ten segments from end to end, decoded one by one."""
    from pipelines.decoding.segment_reader import SegmentReader
    from shards import Dataset

    loaded, dataset = load_run(out), Dataset.open(shards)
    reader = SegmentReader(dataset, loaded.config.segment, video=False)
    assert loaded.setting.labels is not None
    classes = list(loaded.setting.labels.counts)
    right = 0
    for number in range(len(dataset)):
        start, stop = reader.span(dataset.sample(number))
        last = stop - loaded.config.segment.seconds
        logits = []
        for place in range(10):
            (segment,) = reader.segments(number, [start + (last - start) * place / 9])
            audio = torch.from_numpy(segment.audio)[None]
            mel = loaded.device_transform.log_mel.log(loaded.device_transform.log_mel.power(audio))
            with torch.inference_mode():
                logits.append(loaded.method.towers.projection("audio", mel[:, None])[0])
        answer = classes[int(torch.stack(logits).mean(0).argmax())]
        right += answer == dataset.metadata(number)["label"]
    return right / len(dataset)


def test_a_resumed_classifier_is_the_unbroken_one(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = ("finetune", "--train", corpus / "train", *SOUND)
    small = ("--set", "encoders.audio=resnet9_small", "--set", "trainer.checkpoint_every_steps=1")
    succeed(*untrained, *small, "--out", tmp_path / "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert invoke(*untrained, *small, "--out", tmp_path / "broken")[0] != 0
    succeed(*untrained, *small, "--out", tmp_path / "broken", "--resume")
    whole, resumed = (load_run(tmp_path / name) for name in ("whole", "broken"))
    assert (whole.step, resumed.step) == (4, 4)
    assert whole.setting.labels == resumed.setting.labels
    state = resumed.method.state_dict()
    assert all(torch.equal(value, state[n]) for n, value in whole.method.state_dict().items())
    said = succeed(
        "evaluate", "classification", "--run", tmp_path / "whole", "--test", corpus / "val"
    )
    assert "accuracy of the classifier" in said


def test_images_and_exported_encoders_by_the_same_code(tmp_path: Path, corpus: Path) -> None:
    small = image_config().replace("[encoders]", '[encoders]\nimage = "resnet_small"')
    images = make_run(tmp_path / "images", small + "[image_augment]\nsize = 24\n")
    encoder = tmp_path / "encoder.safetensors"
    succeed("export", images, "--modality", "image", "--out", encoder)
    still = ("--modality", "image", "--set", "segment.num_frames=1", *SHORT)
    out = tmp_path / "from-file"
    output = succeed(
        "finetune", "--run", encoder, "--train", corpus / "train", "--out", out, *still
    )
    assert f"weights of {encoder}: image encoder" in output
    config = load_config(out / "config.toml")
    assert (config.encoders.image, config.image_augment.size) == ("resnet_small", 24)


def test_weights_that_say_nothing_of_their_input_leave_the_config_alone(
    tmp_path: Path, corpus: Path
) -> None:
    path = tmp_path / "resnet9.pth"
    torch.save(encoder_names(ENCODERS["audio"].build("resnet9_small").state_dict()), path)
    out = tmp_path / "tuned"
    named = ("--set", "encoders.audio=resnet9_small")
    train = ("--train", corpus / "train", "--out", out, *SOUND, *named)
    assert "audio encoder" in succeed("finetune", "--run", path, *train)


def test_what_cannot_be_classified_is_refused(run: Path, corpus: Path, tmp_path: Path) -> None:
    def refuse(*arguments: object) -> str:
        code, output = invoke(*arguments)
        assert code in (1, 2), output
        return output

    out = tmp_path / "out"
    begin = ("finetune", "--run", run, "--out", out, *SOUND)
    assert "has no label: build the shards with" in refuse(*begin, "--train", corpus / "bare")
    assert not (out / "config.toml").exists()  # a mistake that can be mended in the same folder
    later = (*begin, "--train", corpus / "train", "--test")
    assert "has no label: build the shards with" in refuse(*later, corpus / "bare")
    (tmp_path / "rain").mkdir()
    write_wav(tmp_path / "rain" / "a.wav")
    said = refuse(*later, tmp_path)
    assert "has labels that the classifier has not learned: rain; it knows a, b, c" in said
    assert not out.exists()  # refused before it was trained
    nowhere = ("finetune", "--run", tmp_path / "nowhere", "--out", out)
    assert "there is no such run folder and no such file" in refuse(*nowhere)
    empty = ("finetune", "--run", tmp_path, "--out", out)
    assert "is no run folder: there is no config.toml in it" in refuse(*empty)
    video = ("--modality", "image", "--set", "segment.num_frames=1", *SHORT)
    said = refuse("finetune", "--run", run, "--train", corpus / "train", "--out", out, *video)
    assert "it has weights of no encoder that this config builds" in said
    said = refuse("evaluate", "classification", "--run", run, "--test", corpus / "val")
    assert f"{run} has no classifier: its method is gdt. `gdt finetune --run" in said


def test_a_classifier_is_taken_home(tmp_path: Path, corpus: Path) -> None:
    from torchvision.models.video import mc3_18

    out, file = tmp_path / "tuned", tmp_path / "classifier.safetensors"
    small = ("encoders.video=mc3_18", "segment.num_frames=4", "video_augment.size=32")
    more = [argument for key in (*small, "trainer.max_steps=1") for argument in ("--set", key)]
    succeed("finetune", "--train", corpus / "train", "--out", out, *SHORT, *more)
    succeed("export", out, "--modality", "video", "--out", file)
    assert describe_encoder(file).classes == ["a", "b", "c"]
    values = torch.randn(2, 3, 4, 32, 32)
    method = load_run(out).method
    network = mc3_18(num_classes=3)
    network.load_state_dict(load_file(file))
    with torch.inference_mode():
        wanted = method.towers.projection("video", values)
        torch.testing.assert_close(load_classifier(file)(values), wanted)
        torch.testing.assert_close(network.eval()(values), wanted)
        torch.testing.assert_close(load_encoder(file)(values), method.features("video", values))
    assert "3 classes beside" in file.with_name(f"{file.name}.md").read_text()


def test_a_file_without_a_classifier_is_refused(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    succeed("export", run, "--modality", "audio", "--out", file)
    with pytest.raises(EncoderFileError, match="holds no classifier: export a run of `gdt finetu"):
        load_classifier(file)
