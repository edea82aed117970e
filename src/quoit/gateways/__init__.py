"""Floor 7: clients' bytes to operations and back."""
