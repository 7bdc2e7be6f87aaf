"""Encoders, projection heads, and one file for each method."""

from models.audio import AUDIO_ENCODERS
from models.encoder import Encoder
from models.image import IMAGE_ENCODERS
from models.methods import GDT, METHODS, Method, MoCo, SimCLR, build_method
from models.options import ModelOptions
from models.video import VIDEO_ENCODERS

__all__ = [
    "AUDIO_ENCODERS",
    "GDT",
    "IMAGE_ENCODERS",
    "METHODS",
    "VIDEO_ENCODERS",
    "Encoder",
    "Method",
    "MoCo",
    "ModelOptions",
    "SimCLR",
    "build_method",
]
