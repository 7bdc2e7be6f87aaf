import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from gdt import Batch, plan_loss
from pipelines.device.overlap import Overlap
from pipelines.device.transform import DeviceTransform
from pipelines.loading.raw_batch import RawBatch
from pipelines.loading.stream import StateError
from pipelines.sampling.order import Order
from pipelines.skips import count_skips
from shards import Dataset
from tests.pipelines.stills import image_file, smooth_picture
from tests.tools.training.damage import with_damage
from tools.runs.checkpoints import load_checkpoint
from tools.runs.config import ConfigError, load_config
from tools.runs.losses import read_losses
from tools.runs.run import load_run
from tools.runs.run_folder import RunError, RunFolder
from tools.runs.status import read_status
from tools.training.checkpoint_io import AtomicCheckpointIO
from tools.training.finite import TrainingError
from tools.training.fit import fit, step_seed


def train(config: Path, run: Path, *overrides: str, resume: bool = False) -> None:
    settings = load_config(config, overrides)
    folder = RunFolder(run)
    folder.claim(settings, resume=resume)
    fit(settings, folder, resume=resume)


def stop_after(monkeypatch: pytest.MonkeyPatch, num_saves: int) -> None:
    """Make the process die, as far as Lightning can tell, right after its n-th checkpoint."""
    save = AtomicCheckpointIO.save_checkpoint
    saves = []

    def save_and_die(self: Any, *arguments: Any, **keywords: Any) -> None:
        save(self, *arguments, **keywords)
        saves.append(1)
        if len(saves) == num_saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_die)


@pytest.mark.slow
def test_a_run_resumed_from_any_step_repeats_the_unbroken_one(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_step = ("trainer.checkpoint_every_steps=1",)
    train(tiny_config, tmp_path / "unbroken", *every_step)
    unbroken = read_losses(tmp_path / "unbroken")
    assert [row.step for row in unbroken] == list(range(9))
    assert [row.epoch for row in unbroken] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    weights = load_run(tmp_path / "unbroken").method.state_dict()
    for stop in (1, 3, 5, 6, 8):  # in the middle and at the end of epochs
        run = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning's way to exit
                train(tiny_config, run, *every_step)
        assert len(read_losses(run)) == stop
        train(tiny_config, run, *every_step, resume=True)
        assert read_losses(run) == unbroken
        resumed = load_run(run).method.state_dict()
        assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_a_checkpoint_knows_nothing_of_the_batch_that_is_prepared(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where batches are made ahead: the position is that of the batch in hand."""
    short = ("trainer.checkpoint_every_steps=1", "trainer.max_steps=5")
    train(tiny_config, tmp_path / "unbroken", *short)
    ahead = partial(Overlap, background=True)
    monkeypatch.setattr("tools.training.fit.Overlap", ahead)
    run = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning's way to exit
            train(tiny_config, run, *short)
    position = load_checkpoint(run / "checkpoints" / "last.ckpt")["loops"]["fit_loop"]
    assert (position["state_dict"]["combined_loader"][0]["step"]) == 2
    train(tiny_config, run, *short, resume=True)
    assert read_losses(run) == read_losses(tmp_path / "unbroken")


def test_compiled_and_channels_last_learn_the_same(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as for the compiler, and run without it: a compiler takes minutes on two cores."""
    compiled = []

    def trace(self: torch.nn.Module) -> None:
        compiled.append(type(self).__name__)
        compile_module(self, backend="eager")

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    short = ("trainer.max_steps=2", "method.dropout=0.0")
    train(tiny_config, tmp_path / "plain", *short)
    assert not compiled
    train(
        tiny_config, tmp_path / "run", *short, "trainer.compile=true", "trainer.channels_last=true"
    )
    assert compiled == ["Sequential", "Sequential"] or len(compiled) == 2
    plain, run = (load_run(tmp_path / name).method.state_dict() for name in ("plain", "run"))
    assert plain.keys() == run.keys()
    first, second = zip(read_losses(tmp_path / "plain"), read_losses(tmp_path / "run"), strict=True)
    assert first[0].loss == pytest.approx(first[1].loss, rel=1e-5)
    assert second[0].loss == pytest.approx(second[1].loss, rel=1e-3)  # rounding, one step later


def test_a_run_over_mixed_data_sets(tiny_config: Path, tiny_shards: Path, tmp_path: Path) -> None:
    config = tiny_config.with_name("mixed.toml")
    mix = "".join(f'[data.mix.{name}]\nshards = "{tiny_shards}"\n' for name in "ab")
    lines = [line for line in tiny_config.read_text().splitlines() if "shards =" not in line]
    config.write_text("\n".join(lines) + "\n" + mix)
    train(config, tmp_path / "run", "trainer.epochs=1", "data.mix.a.weight=3")
    assert [row.step for row in read_losses(tmp_path / "run")] == list(range(2 * 14 // 4))
    changed = ("trainer.epochs=1", "data.mix.a.weight=2")
    with pytest.raises(RunError, match=r"data\.mix\.a\.weight: 2\.0, was 3\.0"):
        train(config, tmp_path / "run", *changed, resume=True)


@pytest.mark.slow
def test_a_run_that_passed_a_step_over_is_resumed_like_any_other(
    tiny_config: Path, tiny_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer's steps are then one behind the stream's."""
    shards = with_damage(tiny_shards, tmp_path / "damaged", [2, 3])
    short = (f"data.shards={shards}", "data.batch_size=2", "trainer.epochs=1")
    every_step = (*short, "trainer.checkpoint_every_steps=1")
    train(tiny_config, tmp_path / "unbroken", *every_step)
    unbroken = read_losses(tmp_path / "unbroken")
    assert [row.step for row in unbroken] == list(range(6))
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning's way to exit
            train(tiny_config, tmp_path / "run", *every_step)
    train(tiny_config, tmp_path / "run", *every_step, resume=True)
    assert read_losses(tmp_path / "run") == unbroken


def test_a_run_whose_last_steps_have_no_good_sample_ends_with_a_checkpoint(
    tiny_config: Path, tiny_shards: Path, tmp_path: Path
) -> None:
    """Two samples a step, and both of the last step's are damaged."""
    shards = with_damage(tiny_shards, tmp_path / "damaged", [12, 13])
    short = (f"data.shards={shards}", "data.batch_size=2", "trainer.epochs=1")
    train(tiny_config, tmp_path / "run", *short, "trainer.checkpoint_every_steps=100")
    assert [row.step for row in read_losses(tmp_path / "run")] == list(range(6))
    assert load_run(tmp_path / "run").step == 6
    assert count_skips(RunFolder(tmp_path / "run").skip_log) == 2


def test_a_run_of_which_nothing_is_left_says_so(tiny_config: Path, tmp_path: Path) -> None:
    """Images have no sound; too few of them to be too many in a row."""
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        picture = smooth_picture(number, 32, 32)
        (images / f"{number}.jpg").write_bytes(image_file(picture, "a.jpg"))
    with pytest.raises(TrainingError, match=r"every batch was skipped.*run/skips\.jsonl"):
        train(tiny_config, tmp_path / "run", f"data.shards={images}", "trainer.epochs=1")


def test_the_generator_is_seeded_by_run_step_and_rank() -> None:
    seeds = {step_seed(seed, i, rank) for seed in (0, 1) for i in range(5) for rank in (0, 1)}
    assert len(seeds) == 20
    assert step_seed(0, 3, 1) == step_seed(0, 3, 1)
    torch.manual_seed(min(seeds))


def test_a_data_set_smaller_than_a_batch_is_refused(tiny_config: Path, tmp_path: Path) -> None:
    message = "holds 14 samples, fewer than one batch of 15: lower data.batch_size"
    with pytest.raises(TrainingError, match=message):
        train(tiny_config, tmp_path / "run", "data.batch_size=15")


def test_what_only_the_stream_can_refuse_is_said_as_well(tiny_config: Path, tmp_path: Path) -> None:
    message = "the config asks for what cannot be had: decoder = 'films' is unknown"
    with pytest.raises(ConfigError, match=message):
        train(tiny_config, tmp_path / "run", "segment.decoder=films")


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_before_the_update(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    loss_of = plan_loss
    calls = []

    def spoilt(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        loss = loss_of(*arguments)
        if len(calls) < 3:
            return loss
        if what == "loss":
            return loss * float("nan")
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    monkeypatch.setattr("models.methods.gdt.plan_loss", spoilt)
    run, stayed = tmp_path / "run", tmp_path / "stayed"
    with pytest.raises(TrainingError) as caught:
        train(tiny_config, run, "trainer.checkpoint_every_steps=1")
    text = str(caught.value)
    said = {"loss": "the loss is nan at step 2", "gradient": r"the gradient's norm is (inf|nan)"}
    assert re.match(said[what], text)
    assert "(epoch 1): stopped before the update" in text
    assert "lower optimizer.learning_rate" in text
    order = Order(3, 14).samples(0, np.arange(8, 12)).tolist()
    keys = [Dataset.open(load_run(run).config.data.shards or "").sample(n).key for n in order]
    assert text.endswith("Samples of the step: " + ", ".join(keys))
    assert [row.step for row in read_losses(run)] == [0, 1]
    assert load_run(run).step == 2
    status = read_status(RunFolder(run).status)
    assert status is not None
    assert (status.state, status.step) == ("failed", 2)

    monkeypatch.setattr("models.methods.gdt.plan_loss", loss_of)
    train(tiny_config, stayed, "trainer.max_steps=2", "optimizer.schedule=constant")
    train(tiny_config, tmp_path / "other", "optimizer.schedule=constant")
    train(tiny_config, stayed, "trainer.max_steps=4", "optimizer.schedule=constant", resume=True)
    assert read_losses(stayed) == read_losses(tmp_path / "other")[:4]


def test_values_that_are_not_finite_are_named(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = DeviceTransform.__call__
    spoilt: list[str] = []

    def with_a_hole(self: DeviceTransform, raw: RawBatch) -> Batch:
        batch = make(self, raw)
        batch.view("audio").values[2].fill_(float("inf"))
        spoilt[:] = [raw.keys[2]]
        return batch

    monkeypatch.setattr(DeviceTransform, "__call__", with_a_hole)
    with pytest.raises(TrainingError) as caught:
        train(tiny_config, tmp_path / "run")
    assert f"not finite themselves are {spoilt[0]} (audio): `gdt shards verify`" in str(
        caught.value
    )


def test_silence_and_a_still_picture_stay_finite(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = DeviceTransform.__call__

    def silent(self: DeviceTransform, raw: RawBatch) -> Batch:
        assert raw.audio is not None
        assert raw.frames is not None
        return make(
            self,
            replace(
                raw, audio=torch.zeros_like(raw.audio), frames=torch.full_like(raw.frames, 128)
            ),
        )

    monkeypatch.setattr(DeviceTransform, "__call__", silent)
    train(tiny_config, tmp_path / "run", "trainer.epochs=1")
    assert all(math.isfinite(row.loss) for row in read_losses(tmp_path / "run"))
    weights = load_run(tmp_path / "run").method.state_dict().values()
    assert all(bool(torch.isfinite(weight).all()) for weight in weights)


def test_resuming_on_other_shards_is_refused(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny_config, tmp_path / "run", "trainer.max_steps=2")
    monkeypatch.setattr("shards.Dataset.fingerprint", "another")
    with pytest.raises(StateError, match="the saved stream has dataset"):
        train(tiny_config, tmp_path / "run", "trainer.max_steps=2", resume=True)


def test_a_run_leaves_what_evaluation_needs(tiny_config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny_config, run, "trainer.max_steps=3", "trainer.log_every_steps=2")
    assert [row.step for row in read_losses(run)] == [0, 2]
    assert [row.learning_rate for row in read_losses(run)] == pytest.approx([0.01 / 3, 0.01])
    assert list((run / "logs" / "tensorboard").glob("events*"))
    loaded = load_run(run)
    assert loaded.step == 3
    assert not loaded.method.training
    assert not loaded.device_transform.training
    assert loaded.plan == loaded.config.build_plan()
    values = torch.zeros(2, 1, 40, 49)
    assert torch.equal(
        loaded.method.embed("audio", values), load_run(run).method.embed("audio", values)
    )


@pytest.mark.parametrize(
    ("method", "buffers"),
    [
        (
            ("method.name=moco", "method.queue_size=6"),
            {"queue.rows", "queue.codes", "queue.pointer"},
        ),
        (("method.name=byol", "method.hidden_dim=16", "method.embedding_dim=8"), set[str]()),
    ],
)
def test_a_method_brings_its_queue_and_momentum_encoder_back(
    tiny_config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: tuple[str, ...],
    buffers: set[str],
) -> None:
    image = (
        'plan={sample={relation="distinctive"}, augmentation={relation="invariant", draws=2},'
        ' modality={relation="invariant", values=["image"]}}',
        "method={}",
        *method,
        "encoders.image=resnet_small",
        "segment.num_frames=1",
        "image_augment.size=16",
        "trainer.checkpoint_every_steps=1",
        "trainer.max_steps=4",
    )
    train(tiny_config, tmp_path / "unbroken", *image)
    run = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - Lightning's way to exit
            train(tiny_config, run, *image)
    train(tiny_config, run, *image, resume=True)
    assert read_losses(run) == read_losses(tmp_path / "unbroken")
    expected = load_run(tmp_path / "unbroken").method.state_dict()
    resumed = load_run(run).method.state_dict()
    assert buffers <= set(resumed)
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_run_begins_with_the_weights_of_another(
    tiny_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_config, tmp_path / "first", "trainer.max_steps=2")
    still = ("optimizer.learning_rate=1e-30", "trainer.max_steps=1", "method.hidden_dim=24")
    begin = f"trainer.init_from={tmp_path / 'first'}"
    train(tiny_config, tmp_path / "second", *still, begin)
    said = " ".join(capsys.readouterr().err.split())
    assert f"weights of {tmp_path / 'first'}: video encoder, audio encoder; as drawn: video" in said
    first, second = (
        load_run(tmp_path / name).method.towers.encoders.state_dict()
        for name in ("first", "second")
    )
    learned = [name for name in first if "running" not in name and "num_batches" not in name]
    assert learned
    assert all(torch.equal(first[name], second[name]) for name in learned)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RunError, match="empty has no checkpoint to take weights from"):
        train(tiny_config, tmp_path / "third", f"trainer.init_from={empty}")


def test_a_run_of_an_earlier_version_goes_on_and_one_of_another_method_does_not(
    tiny_config: Path, tmp_path: Path
) -> None:
    """Encoders had their weights under another name, and checkpoints no facts."""
    still = "trainer.max_steps=4"
    train(tiny_config, tmp_path / "unbroken", still)
    train(tiny_config, tmp_path / "run", still)
    folder = RunFolder(tmp_path / "run")
    earlier = load_checkpoint(folder.previous_checkpoint)  # of step 2
    for key in ("run_facts", "epoch_begun"):
        del earlier[key]
    weights = earlier["state_dict"]
    earlier["state_dict"] = {
        name.replace(".trunk.", ".network."): weight for name, weight in weights.items()
    }
    assert earlier["state_dict"].keys() != weights.keys()
    torch.save(earlier, folder.checkpoint)
    assert load_run(folder.path).step == 2
    train(tiny_config, folder.path, still, resume=True)
    assert read_losses(folder.path) == read_losses(tmp_path / "unbroken")

    earlier["state_dict"] = {f"{name}.b": weight for name, weight in weights.items()}
    torch.save(earlier, folder.checkpoint)
    with pytest.raises(RunError, match=r"does not belong to .*config\.toml, or is of another"):
        train(tiny_config, folder.path, still, resume=True)
    with pytest.raises(RunError, match=r"does not belong to .*Missing key"):
        load_run(folder.path)


class _AfterStep(Callback):
    """Notes, after each step, every gradient's norm and the groups' weight decay."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.decays: list[list[float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        self.norms += [float(gradient.norm()) for gradient in gradients]
        groups = trainer.optimizers[0].param_groups
        self.decays.append([group["weight_decay"] for group in groups])


def test_gradients_are_clipped_each_and_weight_decay_changes_while_a_run_trains(
    tiny_config: Path, tmp_path: Path
) -> None:
    settings = load_config(
        tiny_config,
        [
            *("trainer.gradient_clip_norm=0.01", "trainer.gradient_clip_by=parameter"),
            *("optimizer.weight_decay=0.1", "optimizer.final_weight_decay=0.3"),
            *("optimizer.exclude_norm_and_bias=true", "trainer.max_steps=2"),
        ],
    )
    folder, spy = RunFolder(tmp_path / "run"), _AfterStep()
    folder.claim(settings, resume=False)
    fit(settings, folder, resume=False, callbacks=[spy])
    assert max(spy.norms) == pytest.approx(0.01, rel=1e-3)
    assert sum(norm > 0.0099 for norm in spy.norms) > 10  # not all together
    expected = [pytest.approx([0.1, 0.0]), pytest.approx([0.2, 0.0])]
    assert spy.decays == expected
