"""All ways of the augmentation benchmark make the same picture, ours to the float's last digits."""

import numpy as np
import pytest
import torch

from benchmarks.augment import Decoded, Ours, Torchvision, draws_of, psnr, reference
from tools.sample_data.timeline import draw_scene, render_video

HEIGHT, WIDTH = 48, 96


def segment(number: int) -> Decoded:
    """Four smooth frames, so that where a way samples chroma hardly matters."""
    picture = render_video(draw_scene(0, "train", number))[:4].astype(np.float32).mean(axis=3)
    luma = np.tile(picture, (1, 1, 2)) * 0.5 + 60
    chroma = np.full((4, 2, HEIGHT // 2, WIDTH // 2), 118.0)
    chroma[:, 1] += np.linspace(0, 20, WIDTH // 2)
    planes = np.concatenate([luma.reshape(4, -1), chroma.reshape(4, -1)], axis=1).astype(np.uint8)
    sound = np.sin(np.arange(24_000) / 9).astype(np.float32)
    box, flip, jitters = draws_of(number, HEIGHT, WIDTH)
    return Decoded(planes, sound, HEIGHT, WIDTH, "bt709", "limited", box, flip, jitters, number)


@pytest.fixture(scope="module")
def segments() -> list[Decoded]:
    torch.set_num_threads(1)
    found = [segment(number) for number in range(3)]
    assert {s.flip for s in found} == {True, False}, "both are drawn"
    return found


def test_ours_is_the_float_reference(segments: list[Decoded]) -> None:
    made = Ours()(Ours.raw(segments))
    for (clip, _), of in zip(made, segments, strict=True):
        assert psnr(clip, reference(of, as_torchvision=False)) > 100
        assert psnr(clip, reference(of, as_torchvision=True)) > 35


def test_torchvision_makes_the_same_picture_and_spectrogram(segments: list[Decoded]) -> None:
    way, made = Torchvision(), Ours()(Ours.raw(segments))
    for (_, ours), of in zip(made, segments, strict=True):
        clip, log_mel = way(of)
        assert psnr(clip, reference(of, as_torchvision=True)) > 25
        assert log_mel.shape == ours.shape
        off = (log_mel - ours).abs()
        assert off.median() < 0.06, "but for the masks, and a gain of at most a tenth"
        assert (off > 0.06).any(), "each has masks of its own"
