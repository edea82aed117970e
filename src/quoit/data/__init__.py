"""Floor 4: what commands mean: (view, command, time) to reply and effects."""

# Why here: whoever looks into the table of commands must find it filled.
import quoit.data.commands  # noqa: F401
