"""Turn YUV planes into a normalised clip in one pass over the GPU's memory: a Triton kernel.

Does what `augment.augment_frames` does with RGB and without blurring or solarizing: crop, resize,
flip, YUV → RGB, colour jitter, normalise. There each step is a tensor of its own, some 40 bytes of
traffic a pixel that comes out; here a program reads the planes' bytes, mixes them in registers and
writes each pixel once, in the type and memory format that the encoder wants.

Contrast blends with the mean colour of the crop, which is not known before the crop is read. What
it does is affine in that mean, so the matrices are composed on the CPU as always, and the kernel
puts the measured one in: no step waits for the GPU.

Legend: N rows, T frames, H W luma size, S output size.
"""

# mypy: disable-error-code="import-untyped,no-untyped-def,untyped-decorator"

import numpy as np
import torch
import triton
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from pipelines.device.augment import recipe_of
from pipelines.device.crop import Floats, Uniform
from pipelines.device.options import VideoAugment

__all__ = ["fused_clip"]

_BLOCK = 512  # pixels of one program
_ROW = 4 + 12 + 9  # numbers of a row: box, colour map, what the mean adds to the map's shift


def fused_clip(
    frames: Tensor,
    height: int,
    width: int,
    rgb: NDArray[np.float64],
    options: VideoAugment,
    draw: Uniform | None,
    out: Tensor,
    *,
    is_reversed: bool = False,
    patch: int | None = None,
) -> Floats:
    """Crop, resize, flip, jitter and normalise; arguments as for `augment_frames`.

    Args:
        frames: uint8 [N, T, H·W·3/2] (I420) or [N, T, H, W, 3] (packed), contiguous.
        height: H.
        width: W.
        rgb: the affine map from what the frames hold to R, G, B in [0, 1], float64 [3, 4].
        options: how much of each; blur and solarizing are left out, channels are RGB.
        draw: uniform numbers [N] by name; None for evaluation.
        out: float32, bfloat16 or float16 [N, 3, T, S, S] of any strides (channels-last, say).
        is_reversed: last frame first.
        patch: which of the grid's is cut out; None for the whole crop.

    Returns:
        The boxes that were cut out, float64 [N, 4].
    """
    num_rows, num_frames = frames.shape[:2]
    if num_rows == 0:
        return np.empty((0, 4))
    frames = frames.contiguous()
    recipe = recipe_of(options, draw, num_rows, height, width, rgb, patch)
    numbers = (recipe.boxes, recipe.color, recipe.by_mean)
    table = np.concatenate([x.reshape(num_rows, -1) for x in numbers], axis=1)
    on_host = torch.from_numpy(table.astype(np.float32))
    on_device = (on_host.pin_memory() if frames.is_cuda else on_host).to(
        frames.device, non_blocking=True
    )
    num_pixels = options.size**2
    num_blocks = triton.cdiv(num_pixels, _BLOCK)
    grid = (num_rows * num_frames * num_blocks,)  # CUDA's other two axes end at 65,535
    constants = (height, width, options.size, frames.dim() == 5, _ROW, _BLOCK)
    means = frames.new_zeros((num_rows, 3), dtype=torch.float32)
    mean, std = np.array(options.mean), np.array(options.std)
    limits = ((0 - mean) / std).tolist() + ((1 - mean) / std).tolist()
    with torch.cuda.device_of(frames):  # Triton starts kernels on the thread's current GPU
        if recipe.by_mean.any():
            parts = frames.new_empty((num_rows, num_frames * num_blocks, 3), dtype=torch.float32)
            sum_kernel[grid](frames, on_device, parts, num_frames, *constants)
            means = parts.sum(dim=1) / (num_frames * num_pixels)
        strides = list(out.stride())
        if is_reversed:  # the kernel writes its frames from the last place to the first
            strides[2], out = -strides[2], out[:, :, -1:]
        clip_kernel[grid](frames, on_device, means, out, num_frames, *strides, *limits, *constants)
    return recipe.boxes


@triton.jit
def _bilinear(plane, y, x, rows: tl.constexpr, columns: tl.constexpr, step: tl.constexpr, live):
    """Bilinear samples at pixel centres (y, x), the edge repeated; `step` bytes between pixels."""
    y = tl.minimum(tl.maximum(y, 0.0), rows - 1.0)
    x = tl.minimum(tl.maximum(x, 0.0), columns - 1.0)
    whole_y = tl.floor(y)
    whole_x = tl.floor(x)
    part_y = y - whole_y
    part_x = x - whole_x
    top = whole_y.to(tl.int32)
    left = whole_x.to(tl.int32)
    bottom = tl.minimum(top + 1, rows - 1)
    right = tl.minimum(left + 1, columns - 1)
    upper = plane + top * columns * step
    lower = plane + bottom * columns * step
    upper_left = tl.load(upper + left * step, mask=live, other=0).to(tl.float32)
    upper_right = tl.load(upper + right * step, mask=live, other=0).to(tl.float32)
    lower_left = tl.load(lower + left * step, mask=live, other=0).to(tl.float32)
    lower_right = tl.load(lower + right * step, mask=live, other=0).to(tl.float32)
    above = upper_left + (upper_right - upper_left) * part_x
    below = lower_left + (lower_right - lower_left) * part_x
    return above + (below - above) * part_y


@triton.jit
def _read_pixels(
    frames, box, frame, i, j, live,
    height: tl.constexpr, width: tl.constexpr, size: tl.constexpr, packed: tl.constexpr,
):  # fmt: skip
    """The three components at output pixels (i, j) of a frame, in 8-bit steps."""
    y = tl.load(box) + tl.load(box + 2) * ((i + 0.5) / size) - 0.5
    x = tl.load(box + 1) + tl.load(box + 3) * ((j + 0.5) / size) - 0.5
    if packed:
        image = frames + frame * (height * width * 3)
        first = _bilinear(image, y, x, height, width, 3, live)
        second = _bilinear(image + 1, y, x, height, width, 3, live)
        third = _bilinear(image + 2, y, x, height, width, 3, live)
    else:
        image = frames + frame * (height * width * 3 // 2)
        u_plane = image + height * width
        v_plane = u_plane + height * width // 4
        # A chroma sample lies halfway between two luma rows, and right on a luma column.
        chroma_y = y * 0.5 - 0.25
        chroma_x = x * 0.5
        first = _bilinear(image, y, x, height, width, 1, live)
        second = _bilinear(u_plane, chroma_y, chroma_x, height // 2, width // 2, 1, live)
        third = _bilinear(v_plane, chroma_y, chroma_x, height // 2, width // 2, 1, live)
    return first, second, third


@triton.jit
def _place(num_frames, size: tl.constexpr, block_pixels: tl.constexpr):
    """A program's row n, frame t and block of pixels; blocks of a frame lie beside one another."""
    num_blocks: tl.constexpr = (size * size + block_pixels - 1) // block_pixels
    program = tl.program_id(0)
    frame = program // num_blocks
    return frame // num_frames, frame % num_frames, program % num_blocks


@triton.jit
def sum_kernel(
    frames, table, parts, num_frames,
    height: tl.constexpr, width: tl.constexpr, size: tl.constexpr, packed: tl.constexpr,
    row_numbers: tl.constexpr, block_pixels: tl.constexpr,
):  # fmt: skip
    """Sums of a block's components, each block in a place of its own: one order of adding."""
    n, t, block = _place(num_frames, size, block_pixels)
    pixel = block * block_pixels + tl.arange(0, block_pixels)
    live = pixel < size * size
    frame = n.to(tl.int64) * num_frames + t
    first, second, third = _read_pixels(
        frames, table + n * row_numbers, frame, pixel // size, pixel % size, live,
        height, width, size, packed,
    )  # fmt: skip
    place = parts + tl.program_id(0).to(tl.int64) * 3
    tl.store(place, tl.sum(tl.where(live, first, 0.0), 0))
    tl.store(place + 1, tl.sum(tl.where(live, second, 0.0), 0))
    tl.store(place + 2, tl.sum(tl.where(live, third, 0.0), 0))


@triton.jit
def clip_kernel(
    frames, table, means, out, num_frames,
    stride_n, stride_c, stride_t, stride_i, stride_j,
    low_r, low_g, low_b, high_r, high_g, high_b,
    height: tl.constexpr, width: tl.constexpr, size: tl.constexpr, packed: tl.constexpr,
    row_numbers: tl.constexpr, block_pixels: tl.constexpr,
):  # fmt: skip
    """A block of output pixels of one frame: read, mix, clamp, write."""
    n, t, block = _place(num_frames, size, block_pixels)
    pixel = block * block_pixels + tl.arange(0, block_pixels)
    live = pixel < size * size
    i, j = pixel // size, pixel % size
    box = table + n * row_numbers
    frame = n.to(tl.int64) * num_frames + t
    first, second, third = _read_pixels(frames, box, frame, i, j, live, height, width, size, packed)
    mean_1 = tl.load(means + n * 3)
    mean_2 = tl.load(means + n * 3 + 1)
    mean_3 = tl.load(means + n * 3 + 2)
    place = (
        out + n.to(tl.int64) * stride_n + t.to(tl.int64) * stride_t + i * stride_i + j * stride_j
    )
    for channel in tl.static_range(3):
        color = box + 4 + channel * 4
        by_mean = box + 16 + channel * 3
        value = tl.load(color + 3) + tl.load(by_mean) * mean_1
        value += tl.load(by_mean + 1) * mean_2 + tl.load(by_mean + 2) * mean_3
        value += tl.load(color) * first + tl.load(color + 1) * second + tl.load(color + 2) * third
        low = low_r if channel == 0 else (low_g if channel == 1 else low_b)
        high = high_r if channel == 0 else (high_g if channel == 1 else high_b)
        value = tl.minimum(tl.maximum(value, low), high)
        tl.store(place + channel * stride_c, value.to(out.dtype.element_ty), mask=live)
