"""Weights from elsewhere arrive where they belong, or the file is refused with the reason."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from tests.tools.evaluation.runs import image_config
from tests.tools.runs.methods import method_of
from tools.runs.config import load_config
from tools.runs.run_folder import RunError
from tools.runs.weights import encoder_names, initialize, read_weights


def encoder_of(method: Any, modality: str) -> dict[str, Tensor]:
    return encoder_names(method.towers.encoders[modality].state_dict())


def drawn_again(state: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(t.shape, generator=generator) if t.is_floating_point() else t
        for name, t in state.items()
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_torchvisions_weights_fit_its_network(tiny_config: Path, tmp_path: Path) -> None:
    method = method_of(load_config(tiny_config, ["encoders.video=r2plus1d_18"]))
    weights = drawn_again(torchvision.models.video.r2plus1d_18(weights=None).state_dict())
    path = tmp_path / "r2plus1d_18.pth"
    torch.save(weights, path)
    audio = encoder_of(method, "audio")
    line = initialize(method, read_weights(str(path)))
    assert line == f"weights of {path}: video encoder; as drawn: " + ", ".join(
        ["audio encoder", "video head", "audio head"]
    )
    taken = encoder_of(method, "video")
    assert same(taken, {n: t for n, t in weights.items() if not n.startswith("fc.")})
    assert same(encoder_of(method, "audio"), audio)


def test_torchvisions_s3d_fits_too(tiny_config: Path, tmp_path: Path) -> None:
    method = method_of(load_config(tiny_config, ["encoders.video=s3d"]))
    weights = drawn_again(torchvision.models.video.s3d(weights=None).state_dict())
    path = tmp_path / "s3d.safetensors"
    save_file(weights, path)
    assert "video encoder; as drawn: audio encoder" in initialize(method, read_weights(str(path)))
    taken = encoder_of(method, "video")
    assert same(
        {f"features.{name}": tensor for name, tensor in taken.items()},
        {name: t for name, t in weights.items() if not name.startswith("classifier.")},
    )


@pytest.mark.parametrize(
    ("name", "drawn"), [("moco", "queue"), ("byol", "predictors"), ("swav", "prototypes")]
)
def test_momentum_encoders_begin_as_copies_and_the_rest_as_drawn(
    tmp_path: Path, name: str, drawn: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(image_config())
    config = load_config(path, ["method={}", f"method.name={name}", "encoders.image=resnet_small"])
    theirs, ours = method_of(config), method_of(config)
    torch.save({f"method.{n}": t for n, t in theirs.state_dict().items()}, tmp_path / "a.ckpt")
    line = initialize(ours, read_weights(str(tmp_path / "a.ckpt")))
    assert line.endswith(f"a.ckpt: image encoder, image head; as drawn: {drawn}")
    found, given = ours.state_dict(), theirs.state_dict()
    differing = {n.partition(".")[0] for n in found if not torch.equal(found[n], given[n])}
    assert differing == {drawn}


def test_the_authors_checkpoint_gives_both_encoders_and_heads(
    tiny_config: Path, tmp_path: Path
) -> None:
    """Made-up weights under the names of facebookresearch/GDT's model, wrapped as it saves them."""
    paper = ["encoders.video=r2plus1d_18", "encoders.audio=resnet9", "method.hidden_dim=512"]
    method = method_of(load_config(tiny_config, [*paper, "method.embedding_dim=256"]))
    video = drawn_again(encoder_of(method, "video"))
    audio = drawn_again(encoder_of(method, "audio"))
    head = {
        "2.weight": torch.randn(512, 512),
        **{f"4.{name}": torch.randn(512) for name in ("weight", "bias", "running_mean")},
        "4.running_var": torch.rand(512),
        "4.num_batches_tracked": torch.tensor(5),
        "8.weight": torch.randn(256, 512),
        "8.bias": torch.randn(256),
    }
    model = {
        **{f"module.video_network.base.{name}": t for name, t in video.items()},
        **{f"module.audio_network.base.{name}": t for name, t in audio.items()},
        "module.audio_network.base.fc.weight": torch.zeros(1000, 512),  # theirs keeps it, unused
        **{f"module.mlp_{m}.block_forward.{name}": t for m in "va" for name, t in head.items()},
    }
    path = tmp_path / "gdt_K400.pth"
    torch.save({"model": model, "epoch": 199}, path)
    line = initialize(method, read_weights(str(path)))
    assert line == f"weights of {path}: " + ", ".join(
        ["video encoder", "audio encoder", "video head", "audio head"]
    )
    assert same(encoder_of(method, "video"), video)
    assert same(encoder_of(method, "audio"), audio)
    ours = method.towers.heads["audio"].state_dict()
    assert torch.equal(ours["1.weight"], head["2.weight"])
    assert torch.equal(ours["2.running_var"], head["4.running_var"])
    assert torch.equal(ours["5.bias"], head["8.bias"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", r"cannot be read as weights \("),
        ({"lr": torch.ones(1)}, "it has weights of no encoder that this config builds"),
        ({"model": 3}, "holds no weights that are known here"),
    ],
)
def test_other_files_are_refused(
    content: Any, message: str, tiny_config: Path, tmp_path: Path
) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(RunError, match=message):
        initialize(method_of(load_config(tiny_config)), read_weights(str(path)))


def test_another_encoder_is_refused_with_the_first_difference(
    tiny_config: Path, tmp_path: Path
) -> None:
    method = method_of(load_config(tiny_config))
    state = {f"method.{n}": t for n, t in method.state_dict().items()}
    name = next(n for n in state if "encoders.video" in n and t_is_matrix(state[n]))
    wrong = {**state, name: state[name][:1]}
    path = tmp_path / "other.safetensors"
    save_file({n: t.contiguous() for n, t in wrong.items()}, path)
    with pytest.raises(RunError, match=r"its video encoder is another one: .* there and \[") as e:
        initialize(method, read_weights(str(path)))
    assert re.search("Build the same encoder", str(e.value))
    assert same(method.state_dict(), {n.removeprefix("method."): t for n, t in state.items()})


def t_is_matrix(tensor: Tensor) -> bool:
    return tensor.ndim > 1 and len(tensor) > 1
