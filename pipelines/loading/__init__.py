"""Load raw batches: decoded ahead, in order, resumable."""
