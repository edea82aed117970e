"""Real node processes on a real network and real file systems, broken on purpose (docs/how-to/chaos.md)."""
