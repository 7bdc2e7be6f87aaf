"""What each codec and profile costs in bytes, in quality and in decoding, on the same pictures.

The pictures of a film are fitted and timed as a build does it, encoded by every codec under every
profile, decoded again, and compared with what the encoder was given by FFmpeg's own `psnr` and
`ssim` filters: luma and chroma together, PSNR of the mean squared error over all frames, SSIM as
the mean over them.
"""

import io
import math
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
from rich.table import Table

from shards import BuildOptions
from shards.encoding.video import VideoEncoder
from shards.encoding.video_codecs import ENCODERS
from shards.media.color import coded_color
from shards.media.container import open_container
from shards.media.frame_fitting import FrameFitter
from shards.media.streams import video_stream
from shards.options import CODECS


@dataclass(frozen=True)
class Quality:
    """Of one codec under one profile; costs are CPU seconds on one thread for a second of film."""

    codec: str
    profile: str
    bytes_a_second: float
    psnr_db: float
    ssim: float
    encode_seconds: float
    decode_seconds: float


def fitted(path: Path, seconds: float, options: BuildOptions) -> list[Any]:
    """The pictures of a clip as the encoder is given them: those on screen at (n + ½) / fps."""
    fitter = FrameFitter(options, None, coded_color(options.codec))
    pictures: list[Any] = []
    with path.open("rb") as file, open_container(file) as container:
        shown = None
        for frame in container.decode(video_stream(container)):
            time_of_next = frame.pts * frame.time_base
            small = fitter.fit(frame)
            while (
                shown is not None
                and (2 * len(pictures) + 1) < 2 * time_of_next * options.frame_rate
            ):
                pictures.append(shown)
                if len(pictures) >= seconds * options.frame_rate:
                    return pictures
            shown = small
    return pictures


def quality(pictures: list[Any], options: BuildOptions) -> Quality:
    """Encode, decode and compare."""
    encoder = VideoEncoder(options)
    begin = time.process_time()
    for picture in pictures:
        encoder.push(picture)
    coded = encoder.finish()
    encoded = time.process_time()
    with open_container(io.BytesIO(coded)) as container:
        decoded = list(container.decode(video_stream(container)))
    done = time.process_time()
    seconds = float(len(pictures) / options.frame_rate)
    return Quality(
        codec=options.codec,
        profile=options.profile,
        bytes_a_second=len(coded) / seconds,
        psnr_db=10 * math.log10(255**2 / max(1e-9, _compare("psnr", decoded, pictures))),
        ssim=_compare("ssim", decoded, pictures),
        encode_seconds=(encoded - begin) / seconds,
        decode_seconds=(done - encoded) / seconds,
    )


#: Filter → what it notes of a frame: mean squared error, structural similarity.
_RESULT = {"psnr": "lavfi.psnr.mse_avg", "ssim": "lavfi.ssim.All"}


def _compare(name: str, decoded: list[Any], pictures: list[Any]) -> float:
    """The mean over the frames of what one of FFmpeg's comparing filters says of each."""
    width, height = pictures[0].width, pictures[0].height
    graph = av.filter.Graph()
    form = f"video_size={width}x{height}:time_base=1/1000:pixel_aspect=1/1:pix_fmt=yuv420p"
    inputs = [graph.add("buffer", form) for _ in range(2)]
    compare, out = graph.add(name), graph.add("buffersink")
    for place, node in enumerate(inputs):
        node.link_to(compare, 0, place)
    compare.link_to(out)
    graph.configure()
    values = []
    for number, pair in enumerate(zip(decoded, pictures, strict=True)):
        for node, coded in zip(inputs, pair, strict=True):
            # the bytes as they are: a filter would bring full range to limited
            frame = av.VideoFrame.from_ndarray(coded.to_ndarray(), "yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 1000)
            node.push(frame)
        values.append(float(graph.vpull().metadata[_RESULT[name]]))
    return sum(values) / len(values)


def quality_table(path: Path, seconds: float) -> Table:
    """One row for each codec and profile."""
    table = Table(title=f"{seconds:g} s of {path.name}")
    headings = ("codec", "profile", "kB/s", "PSNR dB", "SSIM", "encode ms/s", "decode ms/s")
    for heading in headings:
        table.add_column(heading, justify="right" if "/" in heading or "S" in heading else "left")
    for codec in CODECS:
        for profile in ENCODERS[codec].efforts:
            options = BuildOptions(codec=codec, profile=profile)
            found = quality(fitted(path, seconds, options), options)
            table.add_row(
                codec,
                profile,
                f"{found.bytes_a_second / 1000:.1f}",
                f"{found.psnr_db:.2f}",
                f"{found.ssim:.4f}",
                f"{found.encode_seconds * 1000:.0f}",
                f"{found.decode_seconds * 1000:.1f}",
            )
    return table
