"""The flags of `gdt shards build`, in groups, and what they choose: build options and an engine."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from shards import BuildOptions
    from shards.building.array_part import Portion
    from shards.building.engines import Engine
    from shards.sources.split_files import SplitFiles


@dataclass(frozen=True)
class TargetFlags:
    """Where it is built."""

    out: Annotated[
        str, typer.Option(help="Folder or URL (s3://…) to build in: new, empty, or to continue.")
    ]
    labels: Annotated[
        str | None, typer.Option(help="CSV with columns file, label; or folders: their names.")
    ] = None
    split: Annotated[
        list[Path] | None,
        typer.Option(help="Take what this names: of UCF-101, HMDB-51, Kinetics; may be repeated."),
    ] = None
    split_part: Annotated[
        str | None, typer.Option(help="Of --split: train, test, … where one file has several.")
    ] = None
    part: Annotated[
        str | None, typer.Option(help="Of an array job, as in 2/8; `gdt shards merge` joins them.")
    ] = None
    staging: Annotated[
        Path | None, typer.Option(help="Where shards are made that go to a URL.")
    ] = None
    dali_index: Annotated[
        bool, typer.Option("--dali-index", help="Write index files for DALI beside the tars too.")
    ] = False

    def split_files(self) -> "SplitFiles | None":
        """What is to be taken of the sources; None: all."""
        from shards.sources.split_files import SplitFiles

        if self.split_part is not None and not self.split:
            raise typer.BadParameter("--split-part is a part of --split; give the file too.")
        return SplitFiles(self.split, self.split_part) if self.split else None

    def portion(self) -> "Portion | None":
        """The part of an array job; flags that do not go together are refused."""
        from shards.building.array_part import Portion
        from shards.storage.urls import is_url

        if self.dali_index and self.part is not None:
            raise typer.BadParameter(
                "--dali-index is for a whole build: merge the parts, then run "
                "`gdt shards dali-index`."
            )
        if self.staging is not None and not is_url(self.out):
            raise typer.BadParameter("--staging is for shards that go to a URL; --out is a folder.")
        return Portion.parse(self.part) if self.part is not None else None


@dataclass(frozen=True)
class ClipFlags:
    """Clips."""

    cut: Annotated[
        str,
        typer.Option(
            help="fixed (one length), scenes (no clip crosses a cut) or ranges (each of a list)."
        ),
    ] = "fixed"
    clip_seconds: Annotated[float, typer.Option(help="Length of a clip, or the most it has.")] = (
        10.0
    )
    min_clip_seconds: Annotated[
        float | None,
        typer.Option(help="Shortest clip of a scene or range; 2, or the length of a clip."),
    ] = None
    require: Annotated[
        str,
        typer.Option(
            help="All that a clip must have: audio, audible (not silent), motion (not static), "
            "joined by commas; or none."
        ),
    ] = "audio"
    holdout: Annotated[float, typer.Option(help="Fraction held out: makes train and val.")] = 0.0
    holdout_every: Annotated[
        float | None,
        typer.Option(
            help="Seconds: of each such stretch of a source, --holdout seconds are held out, with "
            "a gap on both sides."
        ),
    ] = None
    holdout_clip_seconds: Annotated[
        float | None, typer.Option(help="Length of held-out clips, where it is another one.")
    ] = None
    gap_seconds: Annotated[float, typer.Option(help="Left out between train and val.")] = 10.0
    split_by: Annotated[
        str, typer.Option(help="What is held out: time (the end of each source) or source.")
    ] = "time"
    clips_per_shard: Annotated[int, typer.Option(help="Clips in a shard.")] = 256


@dataclass(frozen=True)
class VideoFlags:
    """Video."""

    short_side: Annotated[int, typer.Option(help="Height in pixels; width follows 16:9.")] = 128
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT, multiples of 16; or source, to copy each.")
    ] = None
    fit: Annotated[str, typer.Option(help="crop (cover the size) or pad (show all).")] = "crop"
    fps: Annotated[str, typer.Option(help="Frames a second; or source: each its own.")] = "30"
    gop_seconds: Annotated[float, typer.Option(help="Time between keyframes.")] = 0.5
    codec: Annotated[str, typer.Option(help="h264, hevc, vp9, av1, mpeg4 or mjpeg.")] = "h264"
    profile: Annotated[
        str,
        typer.Option(help="fast; compact: fewer bytes, slower; copy: no frame is encoded again."),
    ] = "fast"
    crf: Annotated[int, typer.Option(help="Quality, 0 to 51: lower is better and larger.")] = 20
    hdr: Annotated[str, typer.Option(help="HDR: tonemap (to BT.709) or skip.")] = "tonemap"
    video_track: Annotated[
        str | None, typer.Option(help="Number from 1, or language; else the default track.")
    ] = None


@dataclass(frozen=True)
class AudioFlags:
    """Audio."""

    audio: Annotated[str, typer.Option(help="flac or pcm (exact), opus (48 kHz only) or aac.")] = (
        "flac"
    )
    audio_track: Annotated[
        str | None, typer.Option(help="Number from 1, or language (eng); else the default track.")
    ] = None
    channels: Annotated[int, typer.Option(help="1 or 2; of two, the stream reads the mean.")] = 1
    sample_rate: Annotated[
        int, typer.Option(help="Audio samples a second: 16000, 24000, 48000.")
    ] = 24000


@dataclass(frozen=True)
class WorkFlags:
    """Who does the work."""

    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one for each core if absent.")
    ] = None
    time_limit: Annotated[
        float,
        typer.Option(min=1.0, help="Seconds that a minute of a source may take; or its survey."),
    ] = 600.0
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Who does the work: this machine, or Ray.")
    ] = "local"
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster; without it Ray is started here.")
    ] = None

    def chosen(self) -> "Engine":
        """The engine, not yet started."""
        import os

        if self.engine == "ray":
            from shards.building.ray_engine import RayEngine

            return RayEngine(self.address, self.workers, self.time_limit)
        if self.address is not None:
            raise typer.BadParameter("--address is of a Ray cluster; give --engine ray with it.")
        from shards.building.engines import LocalEngine

        return LocalEngine(self.workers or len(os.sched_getaffinity(0)), self.time_limit)


def build_options(clips: ClipFlags, video: VideoFlags, audio: AudioFlags) -> "BuildOptions":
    """The options that the flags say; flags have the options' names, but for the sample rate."""
    from shards import BuildOptions

    given: dict[str, Any] = vars(clips) | vars(video) | vars(audio)
    given["sample_rate_hz"] = given.pop("sample_rate")
    given["require"] = () if clips.require == "none" else tuple(clips.require.split(","))
    given["size"] = _size(video.size)
    given["fps"] = _fps(video.fps)
    return BuildOptions(**given)


def _fps(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _size(text: str | None) -> tuple[int, int] | str | None:
    if text in (None, "source"):
        return text
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise typer.BadParameter(f"--size is {text!r}; write it as WIDTHxHEIGHT, e.g. 224x128.")
    return int(width), int(height)
