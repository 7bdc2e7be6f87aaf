"""The stream of raw batches: decoded ahead, in order, resumable."""
