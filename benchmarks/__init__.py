"""Measurements, each a program that prints a table: `python -m benchmarks.remote`."""
