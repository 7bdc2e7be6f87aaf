"""The training run, driven by Lightning."""
