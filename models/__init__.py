"""Encoders, projection heads, and one file for each method."""
