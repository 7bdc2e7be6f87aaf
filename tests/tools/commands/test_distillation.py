"""SimCLR v2's way with few labels: fine-tuning from the middle of the head, then a student."""

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.tools.evaluation.runs import image_config, make_run
from tools.cli import app
from tools.runs.losses import read_losses
from tools.runs.run import load_run

STILLS = (
    *("--set", "trainer.epochs=1", "--set", "data.batch_size=6", "--set", "trainer.loggers=[]"),
    *("--set", "segment.num_frames=1"),
)
STUDENT = Path(__file__).parents[3] / "configs" / "distillation.toml"


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    return result.exit_code, re.sub(r"[\s│]+", " ", result.output).strip()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SimCLR with the head of v2."""
    config = image_config().replace("[encoders]", '[encoders]\nimage = "resnet_small"')
    config = config.replace('name = "simclr"', 'name = "simclr"\nhead_layers = 3')
    folder: Path = tmp_path_factory.mktemp("runs") / "simclr"
    return make_run(folder, config + "[image_augment]\nsize = 24\n")


def tune(run: Path, corpus: Path, out: Path, dim: int) -> tuple[int, str]:
    layers = ("--set", "method.projection_layers=1", "--set", f"method.projection_dim={dim}")
    begun = ("--run", run, "--train", corpus / "train", "--out", out, "--modality", "image")
    frozen = ("--set", "optimizer.learning_rate=1e-12")
    return invoke("finetune", *begun, *STILLS, *layers, *frozen)


def test_a_student_follows_a_classifier_that_began_in_the_middle_of_a_head(
    pretrained: Path, corpus: Path, tmp_path: Path
) -> None:
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    code, said = tune(pretrained, corpus, teacher, dim=16)
    assert code == 0, said
    assert "image encoder, first layers of the image head" in said
    before = load_run(pretrained).method.state_dict()
    tuned = load_run(teacher).method.state_dict()
    name = "towers.heads.image.1.weight"
    torch.testing.assert_close(tuned[name], before[name])
    assert "towers.heads.image.5.weight" not in tuned

    def learn(*settings: str) -> tuple[int, str]:
        known = (f"data.shards={corpus / 'train'}", "image_augment.size=24", *settings)
        given = [part for one in known for part in ("--set", one)]
        return invoke("pretrain", STUDENT, *STILLS, *given, "--out", student)

    code, said = learn(f"method.teacher={pretrained}")
    assert "is a run of simclr, and has no classifier: `gdt finetune` trains one" in said
    mean = "image_augment.mean=[0.5, 0.5, 0.5]"
    code, said = learn(f"method.teacher={teacher}", mean)
    assert "image_augment.mean = (0.5, 0.5, 0.5), and the teacher" in said
    assert not (student / "checkpoints").exists()
    code, said = learn(f"method.teacher={teacher}", "trainer.epochs=2")
    assert code == 0, said
    assert len(read_losses(student)) == 4
    learned = load_run(student)
    assert learned.setting.labels is not None
    assert learned.setting.labels.counts == load_run(teacher).setting.labels.counts  # type: ignore[union-attr]
    code, said = invoke("evaluate", "classification", "--run", student, "--test", corpus / "val")
    assert code == 0, said
    assert "accuracy of the classifier" in said


def test_a_head_without_these_layers_is_refused(
    pretrained: Path, corpus: Path, tmp_path: Path
) -> None:
    code, said = tune(pretrained, corpus, tmp_path / "out", dim=24)
    assert code == 1, said
    assert (
        "its image head has not the layers that a classifier takes: 1.weight is [16, 256]" in said
    )
