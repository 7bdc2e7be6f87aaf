"""Search: an index of embedded clips, and the clips in it that are nearest to a query."""
