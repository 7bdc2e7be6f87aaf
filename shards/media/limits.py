"""Limits of a source; what exceeds them is refused from its header."""

MAX_PIXELS = 8192 * 4608  # of a frame
MAX_SIDE = 16384
MAX_HOURS = 168
MAX_STREAMS = 64
MIN_RATE, MAX_RATE = 1, 240  # frames a second
