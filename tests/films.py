"""Films whose every frame says its number and whose every second beeps, for any test to encode."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

CODE_BITS = 10
CORNERS = {"top left": 220, "top right": 165, "bottom left": 110, "bottom right": 55}


@dataclass(frozen=True)
class Film:
    """What to encode. Frame k shows k in binary across the middle (most significant bit left,
    white is 1) between four corners of known grey; a tone starts at every whole second."""

    seconds: float = 3.0
    fps: Fraction = Fraction(25)
    size: tuple[int, int] = (320, 180)
    container: str = "mp4"
    video_codec: str | None = "libx264"
    pixel_format: str = "yuv420p"
    video_options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast"})
    video_start: float = 0.0
    frame_times: Sequence[float] | None = None  # seconds; None means k / fps
    sample_aspect_ratio: Fraction | None = None
    color: tuple[int, int] = (2, 0)  # matrix and range, as numbered by ITU-T H.273; 2, 0: unsaid
    audio_codec: str | None = "aac"
    audio_start: float = 0.0
    audio_seconds: float | None = None
    sample_rate_hz: int = 44100
    layout: str = "stereo"
    container_options: dict[str, str] = field(default_factory=dict)


def picture(number: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Frame `number` as planes of yuv420p stacked [H * 3/2, W]; chroma is grey."""
    luma = np.empty((height, width), np.uint8)
    luma[: height // 2, : width // 2] = CORNERS["top left"]
    luma[: height // 2, width // 2 :] = CORNERS["top right"]
    luma[height // 2 :, : width // 2] = CORNERS["bottom left"]
    luma[height // 2 :, width // 2 :] = CORNERS["bottom right"]
    middle = slice(height * 4 // 10, height * 6 // 10)
    for bit in range(CODE_BITS):
        columns = slice(width * bit // CODE_BITS, width * (bit + 1) // CODE_BITS)
        luma[middle, columns] = 235 if number >> (CODE_BITS - 1 - bit) & 1 else 16
    chroma = np.full((height // 2, width), 128, np.uint8)
    return np.concatenate([luma, chroma])


def read_number(luma: npt.NDArray[np.uint8]) -> int:
    """The number that a picture [H, W] shows, at any size, uncropped at its sides."""
    height, width = luma.shape
    row = luma[height * 9 // 20 : height * 11 // 20].mean(0)
    bits = [row[int(width * (b + 0.5) / CODE_BITS)] > 128 for b in range(CODE_BITS)]
    return sum(1 << (CODE_BITS - 1 - b) for b, on in enumerate(bits) if on)


def sound(seconds: float, start: float, sample_rate_hz: int) -> npt.NDArray[np.float32]:
    """Sound [S] that begins at `start` seconds: a tone of 60 ms from every whole second on."""
    t = start + np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 1000 * t)
    return np.where(t - np.floor(t + 1e-9) < 0.06, tone, 0).astype(np.float32)


def make_film(path: Path, film: Film) -> Path:
    """Encode a film; returns `path`."""
    options = {"fflags": "+bitexact"} | film.container_options
    with av.open(str(path), "w", format=film.container, options=options) as out:
        video = _add_video(out, film) if film.video_codec else None
        audio: Any = None
        if film.audio_codec:
            audio = out.add_stream(film.audio_codec, rate=film.sample_rate_hz, layout=film.layout)
        if video is not None:
            _write_video(out, video, film)
        if audio is not None:
            _write_audio(out, audio, film)
    return path


def _add_video(out: Any, film: Film) -> Any:
    video = out.add_stream(film.video_codec, rate=film.fps, options=dict(film.video_options))
    video.width, video.height = film.size
    video.pix_fmt = film.pixel_format
    video.codec_context.time_base = Fraction(1, 90000) if film.frame_times else 1 / film.fps
    if film.sample_aspect_ratio:
        video.codec_context.sample_aspect_ratio = film.sample_aspect_ratio
    video.codec_context.colorspace, video.codec_context.color_range = film.color
    return video


def _write_video(out: Any, video: Any, film: Film) -> None:
    num_frames = len(film.frame_times or ()) or round(film.seconds * film.fps)
    time_base = video.codec_context.time_base
    for k in range(num_frames):
        frame = av.VideoFrame.from_ndarray(picture(k, *film.size), "yuv420p")
        if film.pixel_format != "yuv420p":
            frame = frame.reformat(format=film.pixel_format)
        time = film.frame_times[k] if film.frame_times else k / film.fps
        frame.pts = round((Fraction(time) + Fraction(film.video_start)) / time_base)
        frame.time_base = time_base
        out.mux(video.encode(frame))
    out.mux(video.encode(None))


def _write_audio(out: Any, audio: Any, film: Film) -> None:
    seconds = film.audio_seconds if film.audio_seconds is not None else film.seconds
    wave = sound(seconds, film.audio_start, film.sample_rate_hz)
    channels = audio.codec_context.layout.nb_channels
    block = audio.codec_context.frame_size or 1024
    for first in range(0, len(wave), block):
        part = np.repeat(wave[None, first : first + block], channels, 0)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), "fltp", film.layout)
        frame.sample_rate = film.sample_rate_hz
        frame.time_base = Fraction(1, film.sample_rate_hz)
        frame.pts = first + round(film.audio_start * film.sample_rate_hz)
        out.mux(audio.encode(_as(frame, audio)))
    out.mux(audio.encode(None))


def _as(frame: Any, audio: Any) -> Any:
    wanted = audio.codec_context.format.name
    if wanted == "fltp":
        return frame
    resampler = av.AudioResampler(format=wanted, layout=frame.layout.name, rate=frame.sample_rate)
    (converted,) = resampler.resample(frame)
    converted.pts, converted.time_base = frame.pts, frame.time_base
    return converted


def decode_video(data: bytes) -> list[Any]:
    """All frames of a file in memory."""
    with av.open(io.BytesIO(data), "r") as container:
        return list(container.decode(video=0))


def decode_audio(data: bytes) -> npt.NDArray[np.float32]:
    """All samples [S] of a mono file in memory, as floats."""
    with av.open(io.BytesIO(data), "r") as container:
        parts = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return (np.concatenate(parts) / 32768).astype(np.float32)


def onsets(wave: npt.NDArray[np.float32], sample_rate_hz: int) -> list[float]:
    """Times in seconds at which the tones of a sound [S] begin."""
    loud = np.abs(wave) > 0.05
    gap = sample_rate_hz // 10  # a tone begins where a tenth of a second was quiet before
    found, last = [], -gap
    for i in np.flatnonzero(loud).tolist():
        if i - last >= gap:
            found.append(i / sample_rate_hz)
        last = i
    return found
