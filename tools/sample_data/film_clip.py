"""A clip of the film with a mask of its first frame, drawn by hand, in DAVIS's layout.

OUT/JPEGImages/480p/bunny/00000.jpg …   27 frames of 320×180, 6 a second
OUT/Annotations/480p/bunny/00000.png    the mask of the first
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from tools.sample_data.film import FilmError
from tools.sample_data.moving_shapes import write_davis_clip

START_SECONDS: Final = 156.0
NUM_FRAMES: Final = 27
FRAMES_PER_SECOND: Final = 6
SIZE: Final = (320, 180)
NAME: Final = "bunny"
#: The rabbit's outline in the first frame, x and y in pixels.
OUTLINE: Final = (
    *((134, 11), (138, 10), (145, 14), (150, 22), (152, 26), (156, 29), (160, 28), (166, 25)),
    *((172, 23), (178, 24), (184, 27), (176, 28), (170, 30), (164, 31), (164, 38), (168, 46)),
    *((173, 54), (179, 60), (183, 68), (185, 76), (189, 85), (192, 98), (190, 108), (189, 120)),
    *((187, 136), (183, 142), (178, 145), (168, 147), (156, 145), (148, 149), (138, 152)),
    *((126, 149), (121, 140), (117, 126), (113, 112), (110, 111), (110, 117), (105, 114)),
    *((99, 101), (99, 96), (101, 84), (104, 75), (110, 66), (119, 58), (129, 50), (140, 42)),
    *((145, 38), (146, 30), (148, 27), (144, 21), (139, 15)),
)


def write_film_clip(film: Path, out: Path) -> None:
    """Write the clip.

    Args:
        film: Big Buck Bunny, as `gdt samples film` fetches it.
        out: the folder; it is made.

    Raises:
        FilmError: the film cannot be read, or is too short.
    """
    frames = _frames(film)
    write_davis_clip(out, NAME, frames, first_mask()[None])


def first_mask() -> npt.NDArray[np.uint8]:
    """The mask of the first frame: 1 within the outline, uint8 [H, W]."""
    from PIL import Image, ImageDraw

    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).polygon(OUTLINE, fill=1)
    return np.asarray(mask)


def _frames(film: Path) -> npt.NDArray[np.uint8]:
    import av

    wanted = START_SECONDS + np.arange(NUM_FRAMES) / FRAMES_PER_SECOND
    found: list[npt.NDArray[np.uint8]] = []
    try:
        with av.open(str(film)) as container:
            video = container.streams.video[0]
            container.seek(int((START_SECONDS - 1) / (video.time_base or 1)), stream=video)
            for frame in container.decode(video):
                if len(found) < NUM_FRAMES and frame.time >= wanted[len(found)] - 1e-3:
                    small = frame.reformat(width=SIZE[0], height=SIZE[1], format="rgb24")
                    found.append(small.to_ndarray().astype(np.uint8))
                if len(found) == NUM_FRAMES:
                    return np.stack(found)
    except (OSError, IndexError, ValueError) as error:
        raise FilmError(f"{film} cannot be read as a film: {error}") from error
    raise FilmError(
        f"{film} ends before {wanted[-1]:.1f} s: give the film of `gdt samples film`, whose clip "
        "this is"
    )
