"""Cutting and resizing against plain numpy and against torch's interpolate."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipelines.device.cut import Boxes, Cut

HEIGHT, WIDTH = 32, 48


def random_frames(num_rows: int, num_frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (num_rows, num_frames, HEIGHT * WIDTH * 3 // 2)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def planes_of(frames: torch.Tensor) -> list[np.ndarray]:
    """Y, U and V of I420 frames [N, T, bytes]."""
    luma, quarter = HEIGHT * WIDTH, HEIGHT * WIDTH // 4
    size = {0: (HEIGHT, WIDTH), 1: (HEIGHT // 2, WIDTH // 2), 2: (HEIGHT // 2, WIDTH // 2)}
    parts = np.split(frames.numpy(), [luma, luma + quarter], axis=-1)
    return [part.reshape(*frames.shape[:2], *size[number]) for number, part in enumerate(parts)]


def bilinear(plane: np.ndarray, y: float, x: float) -> float:
    """The plane at a point in pixel-edge coordinates, the border repeated."""
    y, x = y - 0.5, x - 0.5
    y0, x0 = int(np.floor(y)), int(np.floor(x))
    value = 0.0
    for j, wy in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
        for i, wx in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
            j_in, i_in = np.clip(j, 0, plane.shape[0] - 1), np.clip(i, 0, plane.shape[1] - 1)
            value += wy * wx * float(plane[j_in, i_in])
    return value


def cut_out(frames: torch.Tensor, boxes: Boxes, *, is_reversed: bool = False) -> torch.Tensor:
    """The three components as they are: [N, 3, T, S, S], in 8-bit steps."""
    cut = Cut(boxes, slice(None), frames.shape[1], is_reversed=is_reversed)
    columns = cut.columns(frames, boxes.memory(len(frames), frames))
    as_they_are = torch.eye(3, 4).expand(len(frames), 3, 4)
    components = torch.stack(list(cut.rows(columns, as_they_are)), dim=1)
    torch.testing.assert_close(cut.mean(columns), components.mean(dim=(2, 3, 4)))
    return components


@pytest.mark.parametrize("size", [9, 37])
def test_cutting_equals_plain_numpy(size: int) -> None:
    frames = random_frames(3, 2)
    boxes = np.array([[0.0, 0.0, 32.0, 48.0], [3.3, 23.2, 11.0, -17.5], [8.0, 16.0, 9.0, 9.0]])
    got = cut_out(frames, Boxes(boxes, HEIGHT, WIDTH, size)).numpy()
    assert got.shape == (3, 3, 2, size, size)
    y_plane, u_plane, v_plane = planes_of(frames)
    for row, (top, left, height, width) in enumerate(boxes):
        for j, i in ((0, 0), (4, 5), (8, 8), (2, 7), (size - 1, 0), (3, size - 1)):
            y, x = top + height * (j + 0.5) / size, left + width * (i + 0.5) / size
            for t in range(2):
                # Left-sited chroma: sample k lies on the centre of luma pixel 2k.
                expected = (
                    bilinear(y_plane[row, t], y, x),
                    bilinear(u_plane[row, t], y / 2, x / 2 + 0.25),
                    bilinear(v_plane[row, t], y / 2, x / 2 + 0.25),
                )
                assert got[row, :, t, j, i] == pytest.approx(expected, abs=1e-3)


def test_packed_pixels_are_cut_like_luma() -> None:
    frames = random_frames(2, 3)
    boxes = np.array([[0.0, 0.0, 32.0, 48.0], [3.3, 23.2, 11.0, -17.5]])
    luma = frames[..., : HEIGHT * WIDTH].view(2, 3, HEIGHT, WIDTH)
    packed = torch.stack([luma, 255 - luma, luma // 2], dim=-1)
    got = cut_out(packed, Boxes(boxes, HEIGHT, WIDTH, 20, is_packed=True))
    expected = cut_out(frames, Boxes(boxes, HEIGHT, WIDTH, 20))[:, 0]
    torch.testing.assert_close(got[:, 0], expected)
    torch.testing.assert_close(got[:, 1], 255 - expected)


def test_reversed_frames_come_last_to_first() -> None:
    frames, boxes = (
        random_frames(2, 3),
        np.array([[1.0, 2.0, 20.0, 21.0], [3.3, 23.2, 11.0, -17.5]]),
    )
    given = Boxes(boxes, HEIGHT, WIDTH, 16)
    assert torch.equal(cut_out(frames, given, is_reversed=True), cut_out(frames, given).flip(2))


def test_whole_pixels_are_copied_and_whole_boxes_are_interpolated() -> None:
    frames = random_frames(1, 3)
    luma = frames[..., : HEIGHT * WIDTH].view(1, 3, HEIGHT, WIDTH)
    still = cut_out(frames, Boxes(np.array([[4.0, 10.0, 16.0, 16.0]]), HEIGHT, WIDTH, 16))
    torch.testing.assert_close(still[:, 0], luma[..., 4:20, 10:26].float())
    mirrored = cut_out(frames, Boxes(np.array([[4.0, 26.0, 16.0, -16.0]]), HEIGHT, WIDTH, 16))
    torch.testing.assert_close(mirrored[:, 0], still[:, 0].flip(-1))
    larger = cut_out(frames, Boxes(np.array([[0.0, 0, 32, 48]]), HEIGHT, WIDTH, 64))
    expected = F.interpolate(luma.float(), size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(larger[:, 0], expected, atol=1e-3, rtol=0)
