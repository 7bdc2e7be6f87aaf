"""Read data sets: samples by number, their bytes by range, local or remote."""
