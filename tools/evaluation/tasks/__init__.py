"""Tasks: each file scores a run's encoders in one way, under tools/evaluation/runner.py."""
