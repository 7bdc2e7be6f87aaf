"""Maintain data sets: verify, repair, merge, count, and index third-party tars."""
