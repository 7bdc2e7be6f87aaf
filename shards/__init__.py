"""Bytes on disk: samples, tar shards, their index, and how they are built and verified. No torch."""
