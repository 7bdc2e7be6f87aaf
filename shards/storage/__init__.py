"""Where bytes lie: files, URLs and tars, read by range, cached, and written whole."""
