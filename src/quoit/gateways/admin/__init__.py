"""The HTTP admin gateway."""
