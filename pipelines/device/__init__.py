"""Turn raw batches into training batches on the device: crop, augment, log-mel, codes."""
