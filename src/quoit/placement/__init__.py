"""Floor 2: slots, shards and the ring that gives shards to nodes."""
