"""Floor 2: the Raft core, a pure value machine."""
