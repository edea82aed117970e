"""The shard's state record: how far the engine is, kept in the same atomic batch as the data."""

import msgspec

from quoit.quorum.members import Members

__all__ = ["ShardState", "decode_state", "encode_state", "state_key"]


class ShardState(msgspec.Struct, array_like=True):
    """Invariant: describes exactly the data that are in the engine beside it."""

    applied_index: int = 0
    applied_term: int = 0
    stamp_ms: int = 0
    """The greatest leader's time in any applied entry."""
    seq: int = 0
    """Write counter; a record's version is the value when it was written."""
    counts: dict[int, int] = {}
    """Database -> number of keys."""
    members: Members | None = None
    """Who kept the shard at applied_index; None in records of nodes that knew no changes of members."""
    config_index: int = 0
    """Index of the entry that made them so; 0: they are the first ones."""
    slot_low: int = 0
    slot_high: int = -1
    """Inclusive; the shard's slots."""
    removed: bool = False
    """The replica that was here is not wanted any more, as of config_index; there are no data."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ShardState).decode


def state_key(shard: int) -> bytes:
    """Engine key of the shard's state record."""
    return b"!" + shard.to_bytes(4, "big")


def encode_state(state: ShardState) -> bytes:
    """Record bytes."""
    return _encode(state)


def decode_state(raw: bytes | None) -> ShardState:
    """The record in `raw`; a new shard's when there is none."""
    return _decode(raw) if raw is not None else ShardState()
