"""Which shard a command belongs to. Pure look-ups, no state beside the shard map."""

from quoit.base.slots import home_slot, slot_of
from quoit.data.table import Spec
from quoit.node.session import Watched
from quoit.placement.shard_map import ShardMap

__all__ = ["CROSS_SHARD", "Router", "keys_of"]

CROSS_SHARD = (
    b"-CROSSSLOT Keys in request are kept by different shards; use a {hash tag} in their names, "
    b"or a database from 1 to 15, which is one shard\r\n"
)


def keys_of(spec: Spec, args: list[bytes]) -> list[bytes]:
    """The keys among `args`, in order, by the command's declared positions."""
    if spec.first_key == 0:
        return []
    last = spec.last_key if spec.last_key >= 0 else len(args) + spec.last_key
    return args[spec.first_key : last + 1 : spec.key_step]


class Router:
    """Look-ups from (database, key) to shard.

    slot_to_shard  16384 shard ids
    home           database -> shard of its home slot; databases 1..15 are pinned
    """

    __slots__ = ("all_shards", "home", "slot_to_shard")

    def __init__(self, shard_map: ShardMap) -> None:
        self.slot_to_shard = shard_map.slot_to_shard
        self.home = [0] + [shard_map.slot_to_shard[home_slot(db)] for db in range(1, 16)]
        self.all_shards = [shard.id for shard in shard_map.shards]

    def shard(self, db: int, key: bytes) -> int:
        """The shard that keeps `key` of database `db`."""
        return self.slot_to_shard[slot_of(key)] if db == 0 else self.home[db]

    def shards_of(self, db: int, spec: Spec, args: list[bytes]) -> list[int]:
        """All shards the command touches, in first-seen order; keyless data commands: all of the
        database's shards."""
        if spec.first_key == 0:
            return self.database(db)
        if db:
            return [self.home[db]]
        return list(dict.fromkeys(self.shard(0, key) for key in keys_of(spec, args)))

    def database(self, db: int) -> list[int]:
        """The shards over which the database is spread."""
        return self.all_shards if db == 0 else [self.home[db]]

    def transaction(
        self, watched: Watched, commands: list[tuple[int, Spec, list[bytes]]]
    ) -> list[int]:
        """The shards a MULTI touches with its watched keys."""
        found: dict[int, None] = {}
        for db, key in watched:
            found[self.shard(db, key)] = None
        for db, spec, args in commands:
            for shard in self.shards_of(db, spec, args):
                found[shard] = None
        return list(found)
