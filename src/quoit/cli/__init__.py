"""Floor 8: the quoit command."""
