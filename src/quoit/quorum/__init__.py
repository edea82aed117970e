"""Floor 1: quorum arithmetic and the interface that every agreement core implements."""
