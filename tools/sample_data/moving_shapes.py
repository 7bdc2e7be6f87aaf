"""Moving shapes with exact masks: textured shapes that turn, pass each other and change in light.

    OUT/train/*.mp4                         videos to learn from
    OUT/JPEGImages/480p/NAME/00000.jpg …    clips to propagate masks in, in DAVIS's layout
    OUT/Annotations/480p/NAME/00000.png …   their masks: 0 is the background, 1, 2, … the shapes
    OUT/ImageSets/2017/val.txt              the clips' names

Shapes and background have textures of one kind, in colours of the same palette, and the light
changes over a clip: one cell's colour does not tell what it belongs to, its surroundings may. Every
clip draws what it shows from (seed, folder, number).

Legend: T frames, S side of a frame, shapes lie in [0, 1]².
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.sample_data.ranges import check
from tools.sample_data.synthetic import DISTANCES, KINDS

Floats = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]

_WAVES = 5  # of a texture
_SHAPES = (2, 3)
_RADII = (0.13, 0.24)


@dataclass(frozen=True)
class MovingShapesOptions:
    """How many clips, and of which size.

    Raises:
        ValueError: a number out of range; the message says which and what is allowed.
    """

    num_train: int = 128
    num_val: int = 16
    size: int = 96
    num_frames: int = 24
    frames_per_second: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        check(
            "moving shapes",
            (self.num_train >= 0, "num_train", self.num_train, "0 or more"),
            (self.num_val >= 0, "num_val", self.num_val, "0 or more"),
            (self.size >= 32 and self.size % 2 == 0, "size", self.size, "even, 32 or more"),
            (self.num_frames >= 3, "num_frames", self.num_frames, "3 or more"),
            (self.frames_per_second >= 1, "fps", self.frames_per_second, "1 or more"),
            (self.seed >= 0, "seed", self.seed, "0 or more"),
        )


@dataclass(frozen=True)
class Texture:
    """A sum of waves in each channel, which sticks to what it covers."""

    frequencies: Floats  # 2 × waves, cycles a frame side
    mixture: Floats  # 2·waves × 3, what of each sine and cosine a channel has
    middle: Floats  # 3

    def __call__(self, u: Floats, v: Floats) -> Floats:
        """R, G and B at places [S, S] → [S, S, 3], about 0 to 255."""
        turns = np.stack([u, v], axis=-1) @ self.frequencies
        waves = np.exp(2j * np.pi * turns)
        both = np.concatenate([waves.imag, waves.real], axis=-1)
        return np.asarray(self.middle + both @ self.mixture)


def render_clip(
    options: MovingShapesOptions, folder: str, number: int
) -> tuple[Frames, npt.NDArray[np.uint8]]:
    """Draw a clip.

    Returns:
        Frames, uint8 [T, S, S, 3] RGB, and masks, uint8 [T, S, S].
    """
    rng = np.random.default_rng([options.seed, *folder.encode(), number])
    side, count = options.size, options.num_frames
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    pan = rng.uniform(-0.004, 0.004, 2)
    ground = _texture(rng)
    shapes = [_shape(rng) for _ in range(rng.integers(_SHAPES[0], _SHAPES[1] + 1))]
    light, tint = rng.uniform(0, 2 * np.pi, 2), rng.uniform(-0.12, 0.12, 3)
    frames = np.empty((count, side, side, 3), np.uint8)
    masks = np.zeros((count, side, side), np.uint8)
    for t in range(count):
        picture = ground(x + pan[0] * t, y + pan[1] * t)
        for place, shape in enumerate(shapes, start=1):
            distance, colours = shape(x, y, t)
            cover = np.clip(0.5 - distance * side, 0, 1)[..., None]
            picture += cover * (colours - picture)
            masks[t][distance < 0] = place
        phase = 2 * np.pi * t / 24
        gain = 1 + 0.2 * np.sin(phase + light[0]) + tint * np.sin(phase + light[1])
        frames[t] = np.clip(picture * gain, 0, 255)
    return frames, masks


def _texture(rng: np.random.Generator) -> Texture:
    angle, pace = rng.uniform(0, 2 * np.pi, _WAVES), rng.uniform(2, 7, _WAVES)
    phases, strengths = rng.uniform(0, 2 * np.pi, (_WAVES, 3)), rng.uniform(8, 36, (_WAVES, 3))
    return Texture(
        np.stack([pace * np.cos(angle), pace * np.sin(angle)]),
        np.concatenate([strengths * np.cos(phases), strengths * np.sin(phases)]),
        rng.uniform(90, 150, 3),
    )


def _shape(rng: np.random.Generator) -> Callable[[Floats, Floats, int], tuple[Floats, Floats]]:
    """A shape: places and a frame's number → distance to its outline [S, S], colours [S, S, 3]."""
    distance = DISTANCES[KINDS[rng.integers(len(KINDS))]]
    texture, radius = _texture(rng), rng.uniform(*_RADII)
    middle, reach = rng.uniform(0.35, 0.65, 2), rng.uniform(0.1, 0.3, 2)
    phases, paces = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.08, 0.2, 2)
    turning, breathing = rng.uniform(-0.06, 0.06), rng.uniform(0.0, 0.15)

    def draw(x: Floats, y: Floats, t: int) -> tuple[Floats, Floats]:
        across, down = middle + reach * np.sin(phases[:2] + paces * t)
        size = 1 + breathing * np.sin(phases[2] + 0.15 * t)
        cos, sin = np.cos(phases[3] + turning * t), np.sin(phases[3] + turning * t)
        right, below = (x - across) / size, (y - down) / size
        u, v = right * cos + below * sin, below * cos - right * sin
        return np.asarray(distance(u, v, radius) * size), texture(u, v)

    return draw


def build_moving_shapes(
    out: Path,
    options: MovingShapesOptions,
    *,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the folder that the module describes; files of the same names are written again.

    Args:
        out: the folder; it is made.
        options: how many clips, how long, how large; the seed.
        report: gets (clips done, clips in all).
    """
    total = options.num_train + options.num_val
    (out / "train").mkdir(parents=True, exist_ok=True)
    for number in range(options.num_train):
        frames, _ = render_clip(options, "train", number)
        write_silent_video(out / "train" / f"shapes_{number:05d}.mp4", frames, options)
        report(number + 1, total)
    names = [f"shapes_{number:03d}" for number in range(options.num_val)]
    for number, name in enumerate(names):
        write_davis_clip(out, name, *render_clip(options, "val", number))
        report(options.num_train + number + 1, total)
    lists = out / "ImageSets" / "2017"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "val.txt").write_text("".join(f"{name}\n" for name in names))


def write_silent_video(path: Path, frames: Frames, options: MovingShapesOptions) -> None:
    """Encode frames [T, S, S, 3] as H.264 into an mp4, atomically."""
    import av

    part = path.with_suffix(".part")
    with av.open(str(part), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=options.frames_per_second)
        video.width = video.height = options.size
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1  # the same bytes on any machine
        video.options = {"preset": "veryfast", "crf": "14"}
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, options.frames_per_second)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    part.replace(path)


def write_davis_clip(out: Path, name: str, frames: Frames, masks: npt.NDArray[np.uint8]) -> None:
    """Write a clip in DAVIS's layout: frames as JPEG, masks as PNG with a palette.

    Args:
        out: folder of the data set.
        name: of the clip.
        frames: uint8 [T, H, W, 3].
        masks: uint8 [M, H, W], of the first M frames.
    """
    from PIL import Image

    images, annotations = (out / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    for folder in (images, annotations):
        folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(images / f"{number:05d}.jpg", quality=95)
    for number, mask in enumerate(masks):
        indexed = Image.fromarray(mask).convert("P")
        indexed.putpalette(palette())
        indexed.save(annotations / f"{number:05d}.png")


def palette() -> list[int]:
    """The colours of 256 objects as PASCAL VOC and DAVIS have them: R, G, B one after another."""
    colours = []
    for number in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
        colours += rgb
    return colours
