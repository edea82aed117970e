"""Floor 0: ids, errors, limits, seams and checksums; imports nothing of quoit."""
