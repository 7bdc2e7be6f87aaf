"""Data sets that are read: samples by number, their bytes by range, here or remote."""
