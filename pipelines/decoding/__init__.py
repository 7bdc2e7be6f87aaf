"""From a sample to one second of video and audio on one clock."""
