"""Floor 2: bytes on the wire, RESP and node frames; no I/O."""
