"""Floor 4: what commands mean: (view, command, time) to reply and effects."""
