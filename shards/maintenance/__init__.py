"""The care of data sets: verify, repair, merge, describe, and index what others made."""
