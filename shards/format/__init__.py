"""What a data set is on disk: samples, tar shards, their index and the manifest."""
