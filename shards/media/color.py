"""The colour of coded frames: matrix and range, by name and as streams number them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CodedColor:
    """Matrix and range of coded frames: by name, and as streams number them (ITU-T H.273)."""

    matrix: str
    matrix_number: int
    range: str
    range_number: int


BT709 = CodedColor("bt709", 1, "limited", 1)
#: Whoever reads a JPEG takes it for this (ITU-T T.871), and some never ask the container.
_JFIF = CodedColor("bt601", 5, "full", 2)


def coded_color(codec: str) -> CodedColor:
    """The colour of frames that a build encodes with a codec."""
    return _JFIF if codec == "mjpeg" else BT709


_MATRIX_OF_NUMBER = {1: "bt709", 5: "bt601", 6: "bt601"}
_HIGH_DEFINITION_LINES = 720  # unlabelled frames this tall are taken as BT.709, as players do


def matrix_name(number: int, height: int) -> str:
    """Name a stream's matrix; unlabelled or unknown ones are guessed by height, as players do."""
    guess = "bt709" if height >= _HIGH_DEFINITION_LINES else "bt601"
    return _MATRIX_OF_NUMBER.get(number, guess)
