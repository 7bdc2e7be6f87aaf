"""Decode a sample into segments: one second of video and audio on one clock."""
