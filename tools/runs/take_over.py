"""What a run that begins with other weights takes over: the encoders, and how their input is made.

    a run folder's config, or what an exported encoder says of itself ─► tables ─► under a config's

What the config itself says goes before it. Weights of others say nothing of their input.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models.encoder_file import EncoderFileError, describe_encoder
from tools.runs.config import load_config
from tools.runs.run_folder import RunError, RunFolder

#: Of pictures: what the encoder sees of a frame, and how it is varied; recipes of several views are
#: the method's that was trained by them.
_PICTURES: Final = (
    *("size", "center_scale", "channels", "mean", "std", "crop", "scales", "aspects"),
    *("flip_probability", "jitter_probability", "brightness", "contrast", "saturation", "hue"),
    *("gray_probability", "blur_probability", "blur_sigmas"),
)
#: Table → its keys that are taken over; all of them where there are none.
TAKEN: Final[Mapping[str, tuple[str, ...]]] = {
    "segment": ("seconds", "num_frames", "sample_rate_hz", "frame_size"),
    "video_augment": _PICTURES,
    "image_augment": _PICTURES,
    "audio_augment": (),
    "log_mel": (),
    "encoders": (),
}


def take_over(tables: Mapping[str, Any], source: str) -> dict[str, Any]:
    """A config's tables, with those of `source` where the config says nothing.

    Args:
        tables: of the config; they stay as they are.
        source: as `trainer.init_from`.

    Raises:
        RunError: there is no such run or file.
    """
    found = _tables_of(source)
    merged = dict(tables)
    for name, keys in TAKEN.items():
        theirs = {k: v for k, v in found.get(name, {}).items() if k in keys or not keys}
        if theirs:
            merged[name] = {**theirs, **tables.get(name, {})}
    return merged


def _tables_of(source: str) -> dict[str, Any]:
    path = Path(source)
    if path.is_dir():
        config = RunFolder(path).config
        if not config.exists():
            raise RunError(
                f"{path} is no run folder: there is no {config.name} in it. Give the --out of "
                "`gdt pretrain`, or a file with weights"
            )
        return load_config(config).to_tables()
    if not path.exists():
        raise RunError(f"{path}: there is no such run folder and no such file")
    try:
        about = describe_encoder(path)
    except EncoderFileError:
        return {}  # torchvision's weights, say: `read_weights` refuses what is none
    inputs, log_mel = about.inputs, about.inputs.get("log_mel", {})
    segment = {**log_mel, **inputs}  # a spectrogram's sample rate is the segment's
    return {
        "segment": {
            k: segment[k] for k in ("seconds", "num_frames", "sample_rate_hz") if k in segment
        },
        f"{about.modality}_augment": {k: inputs[k] for k in ("size", "mean", "std") if k in inputs},
        "log_mel": log_mel,
        "encoders": {about.modality: about.name, **about.options},
    }
