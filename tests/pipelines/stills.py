"""Pictures and image files for tests, made by Pillow."""

import io
from typing import Any

import numpy as np
from PIL import Image


def smooth_picture(number: int, width: int, height: int) -> Image.Image:
    """RGB, different for every number, with nothing so fine that chroma at half size loses it."""
    x, y = np.meshgrid(np.arange(width) / width, np.arange(height) / height)
    phase = number * 0.7
    planes = (
        np.sin(7 * x + 3 * y + phase),
        np.cos(5 * y - phase),
        np.sin(4 * x - 6 * y + 2 * phase),
    )
    values = np.stack([128 + 90 * plane for plane in planes], axis=-1)
    return Image.fromarray(values.astype(np.uint8))


def image_file(picture: Image.Image, name: str, orientation: int = 1, **options: Any) -> bytes:
    """The file of a picture, of the kind that `name` ends in; `orientation` goes into its EXIF."""
    kind = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}[name.rpartition(".")[2]]
    if orientation != 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()
