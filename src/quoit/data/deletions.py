"""When keys were deleted last, so that WATCH can tell "never there" from "came and went".

A record's version is the shard's write counter, so it never returns once a key was written again. A
key that is absent has no record; its version is that of the last deletion in its slot, which is at
least as new as its own. So a change is never missed; one that concerns another key of the slot may
make an EXEC fail for nothing, which a client that watches must expect anyway.

Kept in memory by every replica alike, from the effects it applies. After a start, or a snapshot, the
past is unknown: everything may have been deleted up to then.
"""

from quoit.data.effects import Effects

__all__ = ["ABSENT", "Deletions", "deletion_in"]

ABSENT = 1 << 62
"""Set in the version of an absent key, so that it is never that of a record."""


class Deletions:
    """floor    write counter up to which any key may have been deleted
    by_slot  slot (2 bytes) -> write counter after the batch with its last deletion
    """

    __slots__ = ("by_slot", "floor")

    def __init__(self, seq: int) -> None:
        self.reset(seq)

    def reset(self, seq: int) -> None:
        """All that is known is that the shard's write counter is `seq`."""
        self.floor = seq
        self.by_slot: dict[bytes, int] = {}

    def note(self, effects: Effects) -> None:
        """A batch was applied."""
        if effects.ranges:
            self.reset(effects.seq)
            return
        items = effects.items
        if None in items.values():
            seq = effects.seq
            for physical, record in items.items():
                if record is None:
                    self.by_slot[physical[2:4]] = seq

    def last(self, physical: bytes) -> int:
        """Write counter of the last deletion that may have been the key's."""
        return self.by_slot.get(physical[2:4], self.floor)


def deletion_in(effects: Effects, physical: bytes) -> int:
    """Write counter after the batch if it deleted something in the key's slot, else 0."""
    slot = physical[2:4]
    deleted = effects.ranges or any(
        record is None and other[2:4] == slot for other, record in effects.items.items()
    )
    return effects.seq if deleted else 0
