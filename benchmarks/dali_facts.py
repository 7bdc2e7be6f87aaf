"""What DALI's decoder of bytes does, each fact measured here: `python -m benchmarks.dali_facts`.

The facts in docs/gpu.md that the loader is built on. Runs on the CPU, on VP9.
"""

import importlib
import io
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.color import i420_to_rgb
from pipelines.decoding.backends.matroska import matroska_file

WIDTH, HEIGHT, FRAMES, GROUP = 224, 128, 300, 15
Decode = Callable[[list[bytes], list[Sequence[int]]], list[NDArray[np.uint8]]]


def main() -> None:
    dali: Any = importlib.import_module("nvidia.dali")
    decode = _decoder("none")
    clip = _clip()
    middle = range(60, 90)
    print(
        f"DALI {dali.__version__}, CPU, one thread; a clip of {FRAMES} frames, VP9 {WIDTH}×{HEIGHT}"
    )
    _matrix(decode, clip)
    whole = _milliseconds(decode, clip, middle)
    print(f"- 30 frames out of the middle of the whole clip: {whole:.1f} ms")
    small = _milliseconds(decode, _group(clip, 60, 90), range(30))
    print(f"- the same frames, fed as a file of their own packets: {small:.1f} ms")
    twice = _milliseconds(decode, clip, sorted([*middle, *middle]))
    print(f"- each of them asked for twice: {twice:.1f} ms, {twice / whole:.0f} × as long")
    _past_the_end(clip)
    _failure(decode, clip)


def _matrix(decode: Decode, clip: bytes) -> None:
    """Which matrix turns the planes of a BT.709 stream into the RGB that comes out?"""
    (found,) = decode([clip], [[100]])
    with av.open(io.BytesIO(clip)) as container:
        frames: Any = container
        planes = list(frames.decode(video=0))[100].to_ndarray()
    flat = torch.from_numpy(planes.reshape(-1))
    for name in ("bt601", "bt709"):
        rgb = i420_to_rgb(flat, HEIGHT, WIDTH, name, "limited", "bilinear").permute(1, 2, 0)
        error = ((rgb.numpy() - found[0] / 255) ** 2).mean()
        print(f"- RGB of a BT.709 stream beside {name}: {-10 * np.log10(error):.1f} dB")


def _past_the_end(clip: bytes) -> None:
    for padding in ("constant", "none"):
        try:
            (found,) = _decoder(padding)([clip], [[FRAMES - 1, FRAMES]])
            what = f"a frame whose mean is {found[1].mean():.0f}, without a word"
        except RuntimeError as error:
            what = f"an error: {_sentence(error)}"
        print(f"- frame {FRAMES} of {FRAMES} with pad_mode={padding!r}: {what}")


def _failure(decode: Decode, clip: bytes) -> None:
    good, middle = _group(clip, 60, 90), range(30)
    expected = decode([good], [middle])[0]
    for name in ("header", "middle"):
        packets = _packets(clip)
        damaged = bytearray(packets[62][0])
        if name == "header":
            damaged[:16] = bytes(16)
        else:
            damaged[len(damaged) // 2] ^= 0xFF
        packets[62] = (bytes(damaged), packets[62][1])
        bad = _file(packets[60:90])
        try:
            found = decode([good, bad], [middle, middle])
            changed = sum(bool((a != b).any()) for a, b in zip(found[1], expected, strict=True))
            what = f"no error, and {changed} of 30 frames are wrong"
        except RuntimeError as error:
            what = f"the whole batch fails, and nothing says which sample: {_sentence(error)}"
        print(f"- a packet damaged in its {name}: {what}")


def _decoder(padding: str) -> Decode:
    dali: Any = importlib.import_module("nvidia.dali")
    fn: Any = importlib.import_module("nvidia.dali.fn")

    def graph() -> Any:
        files = fn.external_source(name="files", dtype=dali.types.UINT8, ndim=1)
        numbers = fn.external_source(name="numbers", dtype=dali.types.INT32, ndim=1)
        return fn.decoders.video(files, frames=numbers, device="cpu", pad_mode=padding)

    def build() -> Any:
        built: Any = dali.pipeline_def(graph)(
            batch_size=2, num_threads=1, device_id=None, exec_dynamic=True, prefetch_queue_depth=1
        )
        built.build()
        return built

    pipeline = build()

    def decode(files: list[bytes], numbers: list[Sequence[int]]) -> list[NDArray[np.uint8]]:
        nonlocal pipeline
        pipeline.feed_input("files", [np.frombuffer(file, np.uint8) for file in files])
        pipeline.feed_input("numbers", [np.array(n, np.int32) for n in numbers])
        try:
            (frames,) = pipeline.run()
        except RuntimeError:
            pipeline = build()
            raise
        return [np.asarray(frames[i]).copy() for i in range(len(files))]

    return decode


def _milliseconds(decode: Decode, file: bytes, numbers: Sequence[int]) -> float:
    times = []
    for _ in range(7):
        started = time.perf_counter()
        decode([file], [numbers])
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


def _clip() -> bytes:
    file = io.BytesIO()
    options = {"crf": "20", "b": "0", "cpu-used": "8", "lag-in-frames": "0", "g": str(GROUP)}
    rng = np.random.default_rng(0)
    texture = rng.normal(size=(2 * HEIGHT, 2 * WIDTH)).cumsum(0).cumsum(1)
    texture = 126 + 90 * (texture - texture.mean()) / np.abs(texture - texture.mean()).max()
    with av.open(file, mode="w", format="mp4") as container:
        stream: Any = container.add_stream("libvpx-vp9", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        for number in range(FRAMES):
            left = number % WIDTH
            luma = texture[:HEIGHT, left : left + WIDTH]
            u, v = texture[HEIGHT::2, left : left + WIDTH : 2], 255 - luma[::2, ::2]
            color = np.concatenate([u.ravel(), v.ravel()]).reshape(HEIGHT // 2, WIDTH)
            planes = np.concatenate([luma, color]).clip(16, 235).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _packets(clip: bytes) -> list[tuple[bytes, bool]]:
    container: Any
    with av.open(io.BytesIO(clip)) as container:
        return [(bytes(p), p.is_keyframe) for p in container.demux(video=0) if p.size]


def _file(packets: list[tuple[bytes, bool]]) -> bytes:
    bodies, keyframes = zip(*packets, strict=True)
    return matroska_file("vp9", b"", WIDTH, HEIGHT, bodies, range(len(bodies)), keyframes)


def _group(clip: bytes, first: int, stop: int) -> bytes:
    return _file(_packets(clip)[first:stop])


def _sentence(error: RuntimeError) -> str:
    text = str(error).split("encountered:")[-1].split("C++ context")[0]
    return " ".join(text.split())


if __name__ == "__main__":
    main()
