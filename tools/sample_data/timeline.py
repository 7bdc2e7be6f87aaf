"""A synthetic corpus in which time shows: which way it runs, and how far along a clip is.

What is seen is heard, each on its own:

    kind of shape                            → timbre and register          (the label)
    size                                     → pitch: larger is lower
    strikes, at a pace of the video's own:   → a loud, high note, dying     (the arrow of time)
      up and bright at once, then sinking      away and falling
    the sun crosses the sky, left to right   → the wind's pitch rises       (the position in time)

Played backwards, what was struck swells and rises. Colours, and where the shape is from left to
right, are not audible. Each video draws its scene from (seed, folder, number); files are real mp4s,
H.264 and AAC.

Legend: T frames, S audio samples, H height, W width.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tools.sample_data.ranges import check
from tools.sample_data.synthetic import (
    DISTANCES,
    KINDS,
    TIMBRES,
    SyntheticOptions,
    bright_colour,
    write_video,
)

Floats = npt.NDArray[np.float64]
FORM: Final = SyntheticOptions(seconds=4.0, size=48, frames_per_second=16, sample_rate_hz=16_000)
RADII: Final = (0.16, 0.28)  # of the frame's side
LOWEST_HZ: Final = 400.0
OCTAVES_BETWEEN_KINDS: Final = 0.2
OCTAVES_OVER_SIZE: Final = 0.8
OCTAVES_A_STRIKE: Final = 1.0
SECONDS_BETWEEN_STRIKES: Final = (0.5, 1.0)
FADE_SECONDS: Final = 0.35
SHADE: Final = 0.3  # of a strike's light and sound that is always there
SUN_RADIUS: Final = 0.09
WIND_HZ: Final = (1500.0, 6000.0)


@dataclass(frozen=True)
class TimelineScene:
    """What one video shows and plays; lengths in units of the frame's side."""

    kind: str
    radius: float
    strike_seconds: tuple[float, ...]
    look_seed: int

    def loudness(self, seconds: Floats) -> Floats:
        """1 at each strike, dying away until the next: [N] → [N]."""
        strikes = np.array(self.strike_seconds)
        last = strikes[np.searchsorted(strikes, seconds, side="right") - 1]
        return np.exp((last - seconds) / FADE_SECONDS)


def draw_scene(seed: int, folder: str, number: int) -> TimelineScene:
    """Draw what video `number` of a folder shows; a pure function of its arguments."""
    rng = np.random.default_rng([seed, *folder.encode(), number])
    pace = np.exp(rng.uniform(*np.log(SECONDS_BETWEEN_STRIKES)))
    count = int(FORM.seconds / pace) + 2
    return TimelineScene(
        kind=KINDS[number % len(KINDS)],
        radius=float(rng.uniform(*RADII)),
        strike_seconds=tuple((pace * (np.arange(count) - rng.uniform())).tolist()),
        look_seed=int(rng.integers(2**31)),
    )


def render_video(scene: TimelineScene) -> npt.NDArray[np.uint8]:
    """Draw the frames of a scene: uint8 [T, H, W, 3]; frame i shows the moment i / fps."""
    rng = np.random.default_rng(scene.look_seed)
    side = FORM.size
    times = np.arange(round(FORM.seconds * FORM.frames_per_second)) / FORM.frames_per_second
    grid = (np.arange(side) + 0.5) / side
    sky = rng.uniform(20, 80, 3)
    x = rng.uniform(scene.radius, 1 - scene.radius)
    loudness = scene.loudness(times)[:, None, None]
    y = 1 - scene.radius - (1 - 2 * scene.radius) * loudness
    shape = DISTANCES[scene.kind](grid - x, grid[:, None] - y, scene.radius)
    light = SHADE + (1 - SHADE) * loudness[..., None]
    day = (times / FORM.seconds)[:, None, None]
    sun = np.hypot(grid - day, grid[:, None] - 0.5 + 0.4 * np.sin(np.pi * day)) - SUN_RADIUS
    frames = _paint(
        np.broadcast_to(sky, (len(times), side, side, 3)), sun, np.array([255, 240, 190])
    )
    return _paint(frames, shape, light * bright_colour(rng)).astype(np.uint8)


def _paint(under: Floats, distance: Floats, colour: Floats) -> Floats:
    alpha = np.clip(0.5 - distance * FORM.size, 0.0, 1.0)[..., None]
    return (1 - alpha) * under + alpha * colour


def render_audio(scene: TimelineScene) -> npt.NDArray[np.float32]:
    """Synthesize the audio of a scene: float32 [S] in [-1, 1]."""
    rng = np.random.default_rng(scene.look_seed + 1)
    times = np.arange(round(FORM.seconds * FORM.sample_rate_hz)) / FORM.sample_rate_hz
    size = (scene.radius - RADII[0]) / (RADII[1] - RADII[0])
    register = KINDS.index(scene.kind) * OCTAVES_BETWEEN_KINDS - size * OCTAVES_OVER_SIZE
    octaves = register + OCTAVES_A_STRIKE * scene.loudness(times)
    phase = 2 * np.pi * np.cumsum(LOWEST_HZ * 2.0**octaves) / FORM.sample_rate_hz
    partials = TIMBRES[scene.kind]
    tone = sum((loud * np.sin(phase * partial) for partial, loud in partials), np.zeros_like(times))
    loudness = SHADE + (1 - SHADE) * scene.loudness(times)
    tone *= loudness / sum(loud for _, loud in partials)
    pitch = WIND_HZ[0] * (WIND_HZ[1] / WIND_HZ[0]) ** (times / FORM.seconds)
    # noise slower than a spectrogram's windows, on a carrier: a band of some 100 Hz
    knots = np.arange(0, FORM.seconds + 0.01, 0.01)
    slow = np.interp(times, knots, rng.normal(size=len(knots)))
    wind = slow * np.sin(2 * np.pi * np.cumsum(pitch) / FORM.sample_rate_hz)
    return (0.3 * tone + 0.1 * wind).clip(-1, 1).astype(np.float32)


def build_timeline(
    out: Path,
    num_train: int = 240,
    num_val: int = 96,
    seed: int = 0,
    *,
    workers: int | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write out/train/*.mp4, out/val/*.mp4 and out/labels.csv: file, label, radius, strikes.

    Args:
        out: the folder; it is made. Videos of the same names are written again.
        num_train: training videos of 4 s.
        num_val: held-out videos.
        seed: another one gives other videos.
        workers: threads; one for each core if None.
        report: gets (videos done, videos in all).

    Raises:
        ValueError: a number below 0.
    """
    check(
        "timeline",
        (num_train >= 0, "videos", num_train, "0 or more"),
        (num_val >= 0, "val_videos", num_val, "0 or more"),
        (seed >= 0, "seed", seed, "0 or more"),
    )
    scenes = {
        f"{folder}/{folder}_{number:05d}.mp4": draw_scene(seed, folder, number)
        for folder, count in (("train", num_train), ("val", num_val))
        for number in range(count)
    }
    for folder in ("train", "val"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    with ThreadPool(workers) as pool:
        jobs = pool.imap_unordered(partial(_write, out), scenes.items())
        for done, _ in enumerate(jobs, start=1):
            report(done, len(scenes))
    with (out / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "radius", "strikes"])
        for name, scene in scenes.items():
            strikes = " ".join(f"{second:.2f}" for second in scene.strike_seconds)
            writer.writerow([name, scene.kind, f"{scene.radius:.3f}", strikes])


def _write(out: Path, job: tuple[str, TimelineScene]) -> None:
    name, scene = job
    write_video(out / name, render_video(scene), render_audio(scene), FORM)
