"""Builds: the plan of a data set, the workers that carry it out, and the report."""
