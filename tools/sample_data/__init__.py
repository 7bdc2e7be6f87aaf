"""Videos and texts to try everything on."""
