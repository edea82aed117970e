"""Floor 6: the only floor with sockets, threads and a real clock."""
