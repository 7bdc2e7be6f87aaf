"""From a stretch of a source to the members of a sample: video and audio, encoded or copied."""
