"""Floor 6: the same seams, simulated."""
