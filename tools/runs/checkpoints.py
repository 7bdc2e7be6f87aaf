"""Checkpoints that survive a kill, a full disk and a bad disk: whole, checked, with one before.

    RUN/checkpoints/last.ckpt       weights and statistics, the optimizer, its schedule, the
                                    method's buffers, the position in the stream
    RUN/checkpoints/previous.ckpt   the one before it
    RUN/checkpoints/best.ckpt       that of the highest validation score
    RUN/checkpoints/step-000500.ckpt  one that was asked to be kept

A checkpoint is one of torch's zip files, whose members each carry a CRC-32: all of them are checked
before anything is read, so a flipped bit is a damaged checkpoint and never a changed weight. A run
whose last checkpoint is damaged goes on from the one before it, and says so. What writes them is
tools/training/checkpoint_io.py.
"""

import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from tools.runs.plain_zip import refuse_packed
from tools.runs.run_folder import RunError, RunFolder

# Beside Lightning's own keys:
TRAINED_ON = "trained_on"  # the data set's fingerprint
RUN_FACTS = "run_facts"  # of models.RunFacts, as plain numbers
CLASSES = "classes"  # of models.Labels, where labels were learned: class → samples that show it
EPOCH_BEGUN = "epoch_begun"  # the last epoch whose beginning the method has done its part in

#: Where encoders had their weights before: …encoders.video.network.stem.0.weight
_EARLIER = re.compile(r"(\bencoders\.\w+\.)network\.")

#: What reading a file of anyone's may raise, besides what is meant to be a bug of ours.
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, KeyError, IndexError, TypeError),
    *(
        AttributeError,
        SafetensorError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
    ),
)


def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """The checkpoint's dictionary, without running anything that the file may bring along.

    Raises:
        RunError: the file is damaged, or holds anything but tensors and plain values.
    """
    try:
        _check(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return _with_todays_names(checkpoint)
    except UNREADABLE as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(
            f"{path} cannot be read as a checkpoint ({cause}). Is it cut short, or another "
            "program's? Bring it back from a copy, or train again in another folder"
        ) from error


def _with_todays_names(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Rename weights that earlier versions kept elsewhere; what they are is the same."""
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("state_dict"), dict):
        weights = checkpoint["state_dict"].items()
        checkpoint["state_dict"] = {_EARLIER.sub(r"\1trunk.", name): w for name, w in weights}
    return checkpoint


def _check(path: Path) -> None:
    """Compare every member with its CRC-32."""
    refuse_packed(path)
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"its member {damaged} is not what was written: a damaged disk or copy")


def newest_checkpoint(folder: RunFolder, say: Callable[[str], None]) -> Path | None:
    """The file of `read_newest`."""
    found = read_newest(folder, say)
    return None if found is None else found[0]


def read_newest(
    folder: RunFolder, say: Callable[[str], None]
) -> tuple[Path, dict[str, Any]] | None:
    """The last checkpoint, or the one before where that one is damaged; None where there is none.

    Args:
        folder: of the run.
        say: gets a line where it is not the last one.

    Returns:
        Its file, and what `load_checkpoint` gives of it.

    Raises:
        RunError: there are checkpoints, and none can be read.
    """
    faults: list[RunError] = []
    for path in (folder.checkpoint, folder.previous_checkpoint):
        if not path.exists():
            continue
        try:
            content = load_checkpoint(path)
        except RunError as error:
            faults.append(error)
            continue
        if faults:
            say(f"{faults[0]}. Using the checkpoint before it, {path}")
        return path, content
    if faults:
        raise faults[0]
    return None


def set_damaged_aside(folder: RunFolder, good: Path) -> None:
    """Where `good` is the previous checkpoint, keep the next save from replacing it."""
    if good == folder.previous_checkpoint and folder.checkpoint.exists():
        folder.checkpoint.replace(folder.checkpoint.with_suffix(".damaged"))
