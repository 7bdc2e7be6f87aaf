"""Label propagation: masks and joints of a clip's first frame, carried on by what looks alike."""
