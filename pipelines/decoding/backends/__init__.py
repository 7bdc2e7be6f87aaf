"""Decoders of indexed tracks: PyAV, torchcodec, decord, NVDEC; one protocol, chosen by name."""
