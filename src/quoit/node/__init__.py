"""Floor 5: a whole node as a pure value machine."""
