"""Floor 3: the log, the engine and their twins, synchronous code over the Disk seam."""
