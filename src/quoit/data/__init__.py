"""Floor 4: what commands mean: (view, command, time) to reply and effects.

Owns the layout of keys and records (keys.py, record.py), the view that commands read and write
(view.py), the effects that the log holds (effects.py), the table of commands (table.py) and the
commands (commands/). Promises: the same engine state, arguments and stamped time give the same reply
and effects; a command that fails leaves nothing behind; a read changes nothing, and says so when an
expired key made its answer depend on the clock.

Where it deviates from Redis 7.2, on purpose:
  - OBJECT IDLETIME is 0 and FREQ an error: accesses are not replicated, so they are not known.
    OBJECT ENCODING follows from the value alone (APPEND and SETRANGE do not force `raw`).
  - COPY and MOVE to another database work only where one shard keeps both.
  - SCAN looks at no more than 10,000 keys per call, whatever COUNT says, and refuses a negative cursor.
  - INCRBYFLOAT reads no hexadecimal floats.
  - A watched key that did not exist, was made and deleted again counts as unchanged.
  - Patterns longer than 4 KiB, and LCS of strings whose table would exceed 32 MiB, are refused.
"""

# Why here: whoever looks into the table of commands must find it filled.
import quoit.data.commands  # noqa: F401
