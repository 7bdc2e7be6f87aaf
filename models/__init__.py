"""Encoders, parts that methods share, and one file for each method."""

from models import _torchvision  # noqa: F401 - first of all: others would import it more slowly
from models.encoder_file import load_classifier, load_encoder, save_encoder
from models.encoders import ENCODERS, Encoder, EncoderOptions
from models.method import Labels, Losses, Method, MethodOptions, RunFacts, Setting
from models.methods import METHODS, build_method

__all__ = [
    "ENCODERS",
    "METHODS",
    "Encoder",
    "EncoderOptions",
    "Labels",
    "Losses",
    "Method",
    "MethodOptions",
    "RunFacts",
    "Setting",
    "build_method",
    "load_classifier",
    "load_encoder",
    "save_encoder",
]
