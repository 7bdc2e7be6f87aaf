"""A new method of a config, with random weights."""

from models import Method, build_method
from tools.runs.config import Config


def method_of(config: Config) -> Method:
    """Build it."""
    return build_method(config.model, config.build_plan())
