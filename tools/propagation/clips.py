"""Clips whose first frame is labelled, as DAVIS, VIP and JHMDB lay them out in folders.

    davis   JPEGImages/480p/NAME/*.jpg   Annotations/480p/NAME/*.png   ImageSets/2017/SPLIT.txt
    vip     Images/NAME/*.jpg   Annotations/Category_ids/NAME/*.png   lists/SPLIT_videos.txt
    jhmdb   Rename_Images/CLASS/NAME/*.png   joint_positions/CLASS/NAME/joint_positions.mat
            splits/CLASS_test_split1.txt, lines `NAME.avi 2` for what is tested on

A mask is a PNG of one number a pixel, its palette is for the eye. Only the first frame must have
one: what has none later is propagated and drawn, and not scored.

Legend: T frames, H W pixels, J joints.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tools.evaluation.errors import EvaluationError

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

_LEAST_FRAMES = 3  # the first and the last of a clip are left out of its scores
_VOID = 255  # of a mask: neither an object nor the background
_PICTURES: Final = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class LabelledClip:
    """A clip, and what is known of its frames.

    Attributes:
        name: of its folder.
        frames: their files, in order.
        masks: frame number → file.
        joints: x and y in pixels, [T, J, 2]; not above 0 where one is not seen. None for masks.
    """

    name: str
    frames: tuple[Path, ...]
    masks: Mapping[int, Path] = field(default_factory=dict)
    joints: Floats | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every frame has its mask, or its joints."""
        return self.joints is not None or len(self.masks) == len(self.frames)

    def frame(self, number: int) -> Bytes:
        """Read a frame: uint8 [H, W, 3] RGB.

        Raises:
            EvaluationError: it cannot be read.
        """
        return _read(self.frames[number], "RGB")

    def mask(self, number: int) -> Bytes:
        """Read a mask: uint8 [H, W], objects or classes by number; void counts as background.

        Raises:
            EvaluationError: it cannot be read, holds colours, has another size than its frame, or
                is the first and shows nothing.
        """
        path = self.masks[number]
        mask = _read(path, "P")
        size = _read(self.frames[number], "RGB").shape[:2]
        if mask.shape != size:
            raise EvaluationError(
                f"{path} is {mask.shape[1]}×{mask.shape[0]} and its frame {self.frames[number]} is "
                f"{size[1]}×{size[0]}: a mask says what each pixel of its frame is, so both must "
                "have one size"
            )
        mask = np.where(mask == _VOID, 0, mask).astype(np.uint8)
        if number == 0 and not mask.any():
            raise EvaluationError(
                f"{path} shows no object: each of its pixels is 0 (background) or {_VOID} (void), "
                "and it is what is propagated. Objects are numbered from 1"
            )
        return mask


def _read(path: Path, mode: str) -> Bytes:
    from PIL import Image, UnidentifiedImageError

    refused = (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError)
    try:
        with Image.open(path) as image:
            if mode == "P" and image.mode not in ("P", "L", "1"):
                raise EvaluationError(
                    f"{path} holds colours, or more than 8 bits ({image.mode}); a mask is a PNG "
                    "with one number of 8 bits a pixel, with a palette (as DAVIS has them) or gray"
                )
            plain = image if mode == "P" else image.convert(mode)
            return np.asarray(plain).astype(np.uint8)
    except refused as error:
        raise EvaluationError(f"{path} cannot be read as a picture: {error}") from error


def _pictures(folder: Path) -> tuple[Path, ...]:
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in _PICTURES))


def _masked_clips(
    root: Path, images: str, annotations: str, list_file: str, split: str
) -> list[LabelledClip]:
    """Clips of the list where there is one, else of all folders of images."""
    listed = root / list_file.format(split=split)
    if listed.exists():
        names = _listed_names(listed)
    elif split != "val":
        raise EvaluationError(f"{listed}: no such list of clips")
    else:
        names = sorted(path.name for path in (root / images).glob("*") if path.is_dir())
    clips = []
    for name in names:
        frames = _pictures(root / images / name)
        by_stem = {path.stem: path for path in _pictures(root / annotations / name)}
        masks = {n: by_stem[path.stem] for n, path in enumerate(frames) if path.stem in by_stem}
        if frames and 0 not in masks:
            raise EvaluationError(
                f"{root / annotations / name} has no mask of the first frame, "
                f"{frames[0].stem}.png: it is what is propagated"
            )
        clips.append(LabelledClip(name, frames, masks))
    return clips


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read as a list of clips: {error}") from error


def _listed_names(path: Path) -> list[str]:
    """Names of clips of a list, each of a folder and there once."""
    names: list[str] = []
    for name in (name for line in _lines_of(path) for name in line.split()):
        _check_name(path, name)
        if name in names:
            raise EvaluationError(f"{path} names {name!r} twice: each clip counts once")
        names.append(name)
    return names


def _check_name(path: Path, name: str) -> None:
    if name in (".", "..") or "/" in name or "\\" in name:
        raise EvaluationError(
            f"{path} has {name!r}; a list names clips by their folders, without a path"
        )


def _davis(root: Path, split: str) -> list[LabelledClip]:
    folders = "JPEGImages/480p", "Annotations/480p", "ImageSets/2017/{split}.txt"
    return _masked_clips(root, *folders, split)


def _vip(root: Path, split: str) -> list[LabelledClip]:
    folders = "Images", "Annotations/Category_ids", "lists/{split}_videos.txt"
    return _masked_clips(root, *folders, split)


def _jhmdb(root: Path, split: str) -> list[LabelledClip]:
    tested = {"val": "2", "train": "1"}.get(split)
    if tested is None:
        raise EvaluationError(f"--split {split}: JHMDB has train and val (its test list)")
    clips = []
    for listed in sorted((root / "splits").glob("*_test_split1.txt")):
        kind = listed.name.removesuffix("_test_split1.txt")
        for line in _lines_of(listed):
            name, _, part = line.strip().rpartition(" ")
            if part != tested:
                continue
            name = name.removesuffix(".avi")
            _check_name(listed, name)
            frames = _pictures(root / "Rename_Images" / kind / name)
            path = root / "joint_positions" / kind / name / "joint_positions.mat"
            clips.append(LabelledClip(name, frames, joints=_joints(path, len(frames))))
    return clips


def _joints(path: Path, num_frames: int) -> Floats:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    refused = (OSError, ValueError, KeyError, TypeError, NotImplementedError, MatReadError)
    try:
        content = loadmat(path, variable_names=["pos_img"])
        places: Any = np.asarray(content["pos_img"], np.float64)  # 2 × J × T
    except (*refused, zlib.error) as error:
        raise EvaluationError(
            f"{path} cannot be read as joint positions (a MATLAB file with pos_img): {error}"
        ) from error
    if places.ndim != 3 or places.shape[0] != 2 or places.shape[2] < num_frames:
        raise EvaluationError(
            f"{path}: pos_img is {list(places.shape)}, must be [2, joints, frames] for the "
            f"{num_frames} frames of its clip"
        )
    return np.asarray(places[:, :, :num_frames].transpose(2, 1, 0))


#: Layout → (folder, split) → clips.
LAYOUTS: Final[dict[str, Callable[[Path, str], list[LabelledClip]]]] = {
    "davis": _davis,
    "vip": _vip,
    "jhmdb": _jhmdb,
}


def read_clips(root: Path, layout: str, split: str) -> list[LabelledClip]:
    """Find the clips of a folder; no frame is read.

    Args:
        root: of the data set.
        layout: of `LAYOUTS`.
        split: "val", or another list of the data set.

    Raises:
        EvaluationError: no such layout or list, no clip, or one that is too short or lacks labels.
    """
    if layout not in LAYOUTS:
        raise EvaluationError(f"no layout {layout!r}; there are {', '.join(LAYOUTS)}")
    clips = LAYOUTS[layout](root, split)
    if not clips:
        raise EvaluationError(
            f"{root} holds no clips in the layout of {layout}; tools/propagation/clips.py shows "
            "which folders each layout has"
        )
    for clip in clips:
        if len(clip.frames) < _LEAST_FRAMES:
            raise EvaluationError(
                f"{root}: clip {clip.name!r} has {len(clip.frames)} frames, and propagation needs "
                f"{_LEAST_FRAMES}: the first is given and the last is not scored"
            )
    return clips
