"""`gdt evaluate propagate` on small folders: numbers beside baselines, pictures, refusals."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.tools.evaluation.runs import CONFIG, image_config, make_run
from tests.tools.propagation.test_clips import davis, jhmdb, mask, picture
from tools.cli import app
from tools.evaluation.result import Evaluation
from tools.propagation.clips import read_clips
from tools.propagation.evaluate import COLOR, STILL
from tools.sample_data.moving_shapes import MovingShapesOptions, build_moving_shapes

FRAMES_CONFIG = re.sub(r"pairs = .*\n", "", CONFIG).replace('"gdt"\nhidden_dim = 16', '"crw"')
FRAMES_CONFIG = FRAMES_CONFIG.replace('["video", "audio"]', '["video"]').replace(
    '"r2plus1d_small"', '"resnet_small"'
)
SHORT = ("--previous", "2", "--radius", "3", "--device", "cpu")


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", "propagate", *map(str, arguments)])
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output).strip()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "crw", FRAMES_CONFIG)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    options = MovingShapesOptions(num_train=0, num_val=2, size=48, num_frames=5)
    build_moving_shapes(folder, options)
    return folder


def found_in(run: Path) -> list[Evaluation]:
    folder = run / "evaluation" / "propagate"
    return [Evaluation.read(path) for path in sorted(folder.glob("*/metrics.json"))]


def test_objects_are_scored_beside_untrained_features_and_colours(run: Path, shapes: Path) -> None:
    code, output = invoke("--run", run, "--clips", shapes, "--stages", 2, "--map-stride", 4, *SHORT)
    assert code == 0, output
    (found,) = found_in(run)
    assert {score.encoder for score in found.scores} == {"trained", "untrained", COLOR, STILL}
    assert {score.metric for score in found.scores} >= {"J&F", "J mean", "F decay"}
    for encoder in ("trained", "untrained", COLOR, STILL):
        parts = [found.value("objects", f"{letter} mean", encoder) for letter in "JF"]
        assert found.value("objects", "J&F", encoder) == pytest.approx(np.mean(parts))
    assert "objects 7 steps" in output
    assert "test " + str(shapes) + ": 2 clips" in output
    out = next((run / "evaluation" / "propagate").iterdir())
    regions = []  # of each object, over its inner frames, from the masks that were written
    for clip in read_clips(shapes, "davis", "val"):
        predicted = [
            np.asarray(Image.open(out / "masks" / clip.name / f"{n:05d}.png")) for n in range(5)
        ]
        for label in range(1, clip.mask(0).max() + 1):
            pairs = [(clip.mask(n) == label, predicted[n] == label) for n in (1, 2, 3)]
            regions.append(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs]))
    assert found.value("objects", "J mean") == pytest.approx(np.mean(regions))
    masks = sorted((out / "masks" / "shapes_000").iterdir())
    assert [path.name for path in masks] == [f"{number:05d}.png" for number in range(5)]
    first = np.asarray(Image.open(shapes / "Annotations" / "480p" / "shapes_000" / "00000.png"))
    assert np.array_equal(np.asarray(Image.open(masks[0])), first)
    assert Image.open(out / "propagated.png").size[0] > 1000


def test_only_the_first_mask_is_propagated_and_drawn_not_scored(run: Path, tmp_path: Path) -> None:
    root = davis(tmp_path / "film", ("cat",), frames=3)
    for number in (1, 2):
        (root / "Annotations" / "480p" / "cat" / f"{number:05d}.png").unlink()
    code, output = invoke("--run", run, "--clips", root, "--out", tmp_path / "out", *SHORT)
    assert code == 0, output
    assert "left out 1 of 1 clips: not every frame has a mask: propagated and drawn" in output
    assert Evaluation.read(tmp_path / "out" / "metrics.json").scores == []
    assert (tmp_path / "out" / "masks" / "cat" / "00002.png").exists()


def test_body_parts_and_joints_have_their_own_measures(run: Path, tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "vip" / "Images" / "one" / f"{number}.jpg", 32, 32)
        parts = np.repeat([[3, 5]], 16, axis=1).repeat(32, axis=0)
        mask(tmp_path / "vip" / "Annotations" / "Category_ids" / "one" / f"{number}.png", parts)
    options = ("--layout", "vip", "--out", tmp_path / "parts", *SHORT)
    assert invoke("--run", run, "--clips", tmp_path / "vip", *options)[0] == 0
    parts_found = Evaluation.read(tmp_path / "parts" / "metrics.json")
    assert parts_found.value("body parts", "mean IoU", STILL) == 1.0

    places = np.tile(np.random.default_rng(0).uniform(2, 11, (2, 15, 1)), 3)
    root = jhmdb(tmp_path / "jhmdb", places)
    more = ("--layout", "jhmdb", "--out", tmp_path / "joints", "--map-stride", 2, *SHORT)
    code, output = invoke("--run", run, "--clips", root, *more)
    assert code == 0, output
    joints_found = Evaluation.read(tmp_path / "joints" / "metrics.json")
    assert joints_found.value("joints", "PCK at 0.1", STILL) == 1.0
    assert 0 <= joints_found.value("joints", "PCK at 0.5", "trained") <= 1


def test_a_class_that_vip_has_not_is_refused(run: Path, tmp_path: Path) -> None:
    for number in range(3):
        picture(tmp_path / "Images" / "one" / f"{number}.jpg")
        numbers = np.full((12, 16), 20)
        mask(tmp_path / "Annotations" / "Category_ids" / "one" / f"{number}.png", numbers)
    code, output = invoke("--run", run, "--clips", tmp_path, "--layout", "vip", *SHORT)
    assert code == 2
    assert "has class 20, and VIP has the background and 19 classes" in output


def test_an_image_run_propagates_at_another_size_and_stride(tmp_path: Path, shapes: Path) -> None:
    config = image_config() + "\n[image_augment]\nsize = 32\n"
    config = config.replace("[encoders]", '[encoders]\nimage = "resnet_small"')
    run = make_run(tmp_path / "simclr", config)
    options = ("--recipe", "dino", "--short-side", 64, "--map-stride", 8, "--no-untrained")
    code, output = invoke("--run", run, "--clips", shapes, *options, "--no-colors", *SHORT)
    assert code == 0, output
    (found,) = found_in(run)
    assert {score.encoder for score in found.scores} == {"trained"}
    assert found.settings["modality"] == "image"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--modality", "image"), "no encoder of image: its plan has the modalities video"),
        (("--map-stride", 3), "cannot have such maps: encoders.map_stride = 3"),
        (("--recipe", "walk"), "no recipe 'walk'; there are videowalk, dino"),
    ],
)
def test_what_does_not_fit_is_refused(
    run: Path, shapes: Path, options: tuple[Any, ...], message: str
) -> None:
    code, output = invoke("--run", run, "--clips", shapes, *options, *SHORT)
    assert code == 2
    assert message in output


def test_frames_of_two_sizes_are_refused(run: Path, shapes: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(shapes, clips)
    odd = sorted((clips / "JPEGImages" / "480p").rglob("*.jpg"))[1]
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(odd)
    code, output = invoke("--run", run, "--clips", clips, *SHORT)
    assert code == 2
    assert "00001.jpg is 50×40 and" in output
    assert "00000.jpg is 48×48, both as they are scaled" in output


def test_encoders_that_mix_frames_are_refused(tmp_path: Path, shapes: Path) -> None:
    run = make_run(tmp_path / "gdt", CONFIG)
    code, output = invoke("--run", run, "--clips", shapes, *SHORT)
    assert code == 2
    assert 'encoders.video = "r2plus1d_small" mixes the frames of a clip' in output
