"""Videos to try everything on."""
