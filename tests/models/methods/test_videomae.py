"""VideoMAE equals its authors' numbers: cubes, loss, tubes; and trains a ViT of clips."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch, named_plan
from models.encoders.video_vit import video_vit_mini
from models.methods.videomae import cubes_of, tube_masking
from models.parts.patch_decoder import in_place
from tests.models.conftest import CLIPS, losses_of_steps
from tests.models.golden_numbers import close, golden, tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("normalize", [True, False])
def test_cubes_loss_and_gradient_equal_the_authors(normalize: bool) -> None:
    given, expected = golden("videomae", f"normalise_{normalize}")
    video, prediction = tensor(given["video_B_C_T_H_W"]), tensor(given["prediction"])
    mean, std = (torch.tensor(of, dtype=torch.float64).view(3, 1, 1, 1) for of in (MEAN, STD))
    cubes = cubes_of(video * std + mean, given["patch_size"], normalize=normalize)
    hidden = tensor(given["mask"]) == 1
    target = cubes[hidden].unflatten(0, (2, -1))
    close(target, expected["target"])
    prediction.requires_grad_()
    loss = (prediction - target).square().mean(dim=2).mean()
    close(loss, expected["loss"])
    loss.backward()
    assert prediction.grad is not None
    close(prediction.grad[0, 0], expected["grad_prediction_first"])
    if normalize:  # so that colours may stay as the encoder sees them
        close(cubes_of(video, given["patch_size"], normalize=True), cubes.tolist(), 1e-4)


def test_tubes_are_as_many_as_the_authors_hide() -> None:
    _, expected = golden("videomae", "tube_mask")
    times, height, width = 8, 14, 14
    kept, hidden, places = tube_masking(torch.rand(2, height * width), times, 0.9)
    by_time = hidden.unflatten(1, (times, height * width))
    assert by_time.sum(dim=2).unique().tolist() == [expected["masked_per_frame"]]
    assert kept.shape == (2, expected["visible_per_clip"])
    assert torch.equal(by_time, by_time[:, :1].expand(-1, times, -1))
    for row in range(2):
        assert sorted(kept[row].tolist()) == (~hidden[row]).nonzero().flatten().tolist()
    tokens = torch.arange(times * height * width).float()[None, :, None].expand(2, -1, 1)
    seen = tokens.gather(1, kept[:, :, None])
    restored = in_place(seen, places, torch.tensor([-1.0]))
    assert torch.equal(restored[:, :, 0], torch.where(hidden, -1.0, tokens[:, :, 0]))
    assert sorted(places[0].tolist()) == list(range(times * height * width))


def test_hidden_cubes_do_not_reach_the_encoder() -> None:
    torch.manual_seed(0)
    trunk, clips = video_vit_mini().trunk, torch.randn(2, 3, 4, 32, 32)
    kept, hidden, _ = tube_masking(torch.rand(2, 16), 2, 0.75)
    place = hidden[0, :16].nonzero()[0, 0]
    changed = clips.clone()
    row, column = divmod(int(place), 4)
    changed[0, :, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1
    assert torch.equal(trunk(clips, kept), trunk(changed, kept))
    assert not torch.equal(trunk(clips), trunk(changed))


def test_a_step_trains_encoder_and_decoder(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("videomae", CLIPS)
    batch = make_batch(CLIPS, [0, 1, 2, 3])
    losses = losses_of_steps(method, batch)
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    values = batch.views[0].values
    assert method.features("video", values).shape == (4, 128)
    assert method.towers.encoder("video").maps(values).shape == (4, 128, 2, 4, 4)


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(
        ValueError, match=r'encoders.image = "resnet_small", must be one of "video_'
    ):
        build_small("videomae", named_plan("simclr"))
    with pytest.raises(ValueError, match=r"mask_share = 0.2 of 4 places hides 0: take a larger"):
        tube_masking(torch.rand(1, 4), 2, 0.2)
    encoder = video_vit_mini()
    with pytest.raises(ValueError, match=r"2 frames and 8 pixels .* got 3 frames of 32×32"):
        encoder(torch.zeros(1, 3, 3, 32, 32))
