"""From raw batch to training batch, on the device: crop, augment, log-mel, codes."""
