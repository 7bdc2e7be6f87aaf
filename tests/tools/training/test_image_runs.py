"""The image methods on folders of images, from the command line."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.pipelines.stills import image_file, smooth_picture
from tools.cli import app
from tools.runs.losses import read_losses

CONFIGS = Path(__file__).parents[3] / "configs"
TINY = (
    "data.batch_size=4",
    "trainer.epochs=1",
    "trainer.accelerator=cpu",
    "image_augment.size=16",
    "method.hidden_dim=8",
    "method.embedding_dim=4",
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of two classes."""
    root = tmp_path_factory.mktemp("images")
    for number in range(8):
        folder = root / ("left", "right")[number % 2]
        folder.mkdir(exist_ok=True)
        picture = smooth_picture(number, 40 + number, 40)
        (folder / f"{number}.jpg").write_bytes(image_file(picture, "a.jpg"))
    return root


def gdt(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("method", "views"), [("simclr", 2), ("simclr", 3), ("moco", 2)])
def test_pretraining_and_neighbours_on_a_folder_of_images(
    images: Path, tmp_path: Path, method: str, views: int
) -> None:
    settings = [f"data.shards={images}", f"plan.augmentation.draws={views}", *TINY]
    if method == "moco":
        settings.append("method.queue_size=8")
    overrides = [part for setting in settings for part in ("--set", setting)]
    run = tmp_path / "run"
    gdt("pretrain", CONFIGS / f"{method}.toml", *overrides, "--out", run)
    assert len(read_losses(run)) == 2
    if views == 2 and method == "simclr":
        out = gdt("evaluate", "knn", "--run", run, "--train", images, "--test", images, "--k", 1)
        assert re.search(r"image +2 steps +\d", out)
        assert "each was left out of its own neighbours" in out


def test_a_model_of_films_finds_nothing_in_images(
    images: Path, tiny_config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    gdt("pretrain", tiny_config, "--set", "trainer.max_steps=1", "--out", run)
    arguments = ["evaluate", "knn", "--run", run, "--train", images, "--test", images]
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2
    said = " ".join(result.stderr.split())
    assert (
        "not one of its 8 clips can be decoded into what is needed (video, audio); cover: 8" in said
    )
