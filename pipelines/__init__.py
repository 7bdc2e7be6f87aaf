"""Read shards into batches: order, decoding on one clock, loading, augmentation on the device."""
