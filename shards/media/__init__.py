"""Sources opened as media by libav: demuxing, decoding, and what their frames look like."""
