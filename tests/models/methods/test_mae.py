"""MAE equals its authors' numbers: masking, target and loss, positions; and trains a ViT."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from gdt import Batch, Plan, View, global_mean, named_plan
from models import EncoderOptions, RunFacts, Setting, build_method
from models.encoders.vit import sine_cosine_positions
from models.methods.mae import MAE, MAEOptions, patch_errors, patches_of, random_masking
from models.parts.patch_decoder import in_place
from tests.models.conftest import losses_of_steps
from tests.models.golden_numbers import close, golden, tensor

PLAN = named_plan("simclr")


def test_masking_equals_the_authors() -> None:
    given, expected = golden("mae", "random_masking_ratio0.75")
    tokens = tensor(given["tokens"])
    kept, hidden, places = random_masking(tensor(given["noise"]), given["mask_ratio"])
    assert kept.shape[1] == given["len_keep"]
    assert places.tolist() == expected["ids_restore"]
    close(hidden, expected["mask"])
    seen = tokens.gather(1, kept[:, :, None].expand(-1, -1, tokens.shape[2]))
    close(seen, expected["x_masked"])
    restored = in_place(seen, places, tensor(given["mask_token"]))
    close(restored, expected["unshuffled_with_mask_tokens"])


@pytest.mark.parametrize("normalize", [True, False])
def test_loss_and_gradients_equal_the_authors(normalize: bool) -> None:
    given, _ = golden("mae", "loss_norm_pix_True")
    _, expected = golden("mae", f"loss_norm_pix_{normalize}")
    images, predicted = tensor(given["imgs"]), tensor(given["pred"]).requires_grad_()
    patch = (given["patch_size"],) * 2
    errors = patch_errors(predicted, images, patch, normalize=normalize)
    loss = global_mean(errors[tensor(given["mask"]) == 1])
    close(loss, expected["loss"])
    if normalize:
        patches = patches_of(images, patch)
        close(patches[0, 0], expected["patchify_first_patch_of_first_image"])
        close(patches[0, 1], expected["patchify_second_patch"])
        loss.backward()
        assert predicted.grad is not None
        close(predicted.grad, expected["grad_pred"])


def test_positions_equal_the_authors() -> None:
    given, expected = golden("mae", "sincos_position")
    positions = sine_cosine_positions(given["grid"], given["grid"], given["embed_dim"])
    close(positions, expected["pos_embed"][1:], tolerance=1e-6)  # ours are float32
    assert not any(expected["pos_embed"][0])  # the class token's, which ours has not


def test_hidden_patches_do_not_reach_the_encoder(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    """Its tokens and all predictions stay when hidden pixels change."""
    torch.manual_seed(0)
    method = build_small("mae", PLAN).eval()
    trunk, images = method.towers.encoder("image").trunk, torch.randn(2, 3, 32, 32)
    kept, hidden, _ = random_masking(torch.rand(2, 16), 0.75)
    patch = hidden[0].nonzero()[0, 0]
    changed = images.clone()
    row, column = divmod(int(patch), 4)
    changed[0, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 1
    assert torch.equal(trunk(images, kept), trunk(changed, kept))
    assert not torch.equal(trunk(images), trunk(changed))
    assert kept.shape == (2, 4)


def test_a_step_trains_encoder_and_decoder(
    make_batch: Callable[..., Batch], build_small: Callable[..., Any]
) -> None:
    torch.manual_seed(0)
    method = build_small("mae", PLAN)
    batch = make_batch(PLAN, [0, 1, 2, 3])
    losses = losses_of_steps(method, batch)
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    assert method.features("image", batch.views[0].values).shape == (8, 128)


def test_patches_of_clips_are_tubes_row_by_row() -> None:
    clips = torch.arange(2 * 3 * 4 * 8 * 6, dtype=torch.float32).view(2, 3, 4, 8, 6)
    patches = patches_of(clips, (2, 4, 3))
    assert patches.shape == (2, 2 * 2 * 2, 2 * 4 * 3 * 3)
    for number in range(8):
        t, h, w = number // 4 * 2, number // 2 % 2 * 4, number % 2 * 3
        tube = clips[:, :, t : t + 2, h : h + 4, w : w + 3]
        assert torch.equal(patches[:, number], tube.permute(0, 2, 3, 4, 1).flatten(1))


@pytest.mark.parametrize(
    ("modality", "encoder", "shape", "grid"),
    [
        ("video", "video_vit_mini", (3, 3, 4, 32, 32), (2, 4, 4)),
        ("audio", "vit_mini", (3, 1, 40, 33), (5, 4)),  # the last frame fills no patch
    ],
)
def test_clips_and_spectrograms_are_painted_too(
    modality: str, encoder: str, shape: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    plan = Plan.from_tables(
        {
            "sample": {"relation": "distinctive"},
            "modality": {"relation": "invariant", "values": [modality]},
        }
    )
    options = MAEOptions(decoder_dim=16, decoder_depth=1, decoder_heads=2)
    encoders, facts = EncoderOptions(**{modality: encoder}), RunFacts(4, 3, 1, 4)  # type: ignore[arg-type]
    method = build_method(options, Setting(plan, encoders, facts))
    assert isinstance(method, MAE)
    values, codes = torch.randn(shape), plan.codes(torch.arange(3))
    noise = torch.rand(3, math.prod(grid))
    method.draw_noise = lambda num_rows, num_patches: noise[:num_rows, :num_patches]  # type: ignore[method-assign]
    loss = method(Batch((View(modality, values, codes),), 0, 0)).total
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())

    trunk: Any = method.towers.encoder(modality).trunk
    kept, hidden, places = random_masking(noise, 0.75)
    positions = trunk.positions(grid, 16)
    painted = method.decoders[modality](trunk(values, kept), places, positions)
    target = patches_of(values, trunk.patch)
    target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(loss, ((painted - target) ** 2).mean(2)[hidden].mean())
    assert method.towers.maps(modality, values).shape == (3, 128, *grid)


def test_refusals(build_small: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r'encoders.image = "resnet_small", must be one of "vit_m'):
        build_small("mae", PLAN, image="resnet_small")
    with pytest.raises(ValueError, match=r"mask_share = 0.75 of 3 patches leaves none to see"):
        random_masking(torch.rand(1, 3), 0.75)
    with pytest.raises(ValueError, match=r"decoder_dim = 20, must be a multiple of decoder_heads"):
        MAEOptions(decoder_dim=20)
