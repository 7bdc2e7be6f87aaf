"""From shard to batch: order, decode, segments on one clock, augmentation, log-mel."""
