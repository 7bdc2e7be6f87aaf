"""A new method of a config, with random weights."""

from models import Labels, Method, RunFacts, Setting, build_method
from tools.runs.config import Config


def method_of(config: Config) -> Method:
    """Build it."""
    facts = RunFacts(num_samples=100_000, batch_size=4, steps_per_epoch=2, num_steps=4)
    labels = Labels.of("abababab")
    return build_method(config.method, Setting(config.build_plan(), config.encoders, facts, labels))
