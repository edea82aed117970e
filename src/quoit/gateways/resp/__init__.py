"""The Redis protocol gateway."""
