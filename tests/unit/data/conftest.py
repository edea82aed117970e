"""A shard without a node: commands run against a View over a dict, and effects are applied to it
after a trip through their encoding, as a replica would."""

from collections.abc import Iterator

import pytest

from quoit.data.effects import decode_effects, encode_effects
from quoit.data.errors import CommandError
from quoit.data.table import COMMANDS, Context
from quoit.data.view import View
from quoit.wire import resp

NOW_MS = 1_700_000_000_000


class Shard:
    """The whole slot space (or a part of it) as one shard."""

    def __init__(self, slot_low: int = 0, slot_high: int = 16383) -> None:
        self.engine: dict[bytes, bytes] = {}
        self.view = View(self.engine.get, self.scan, slot_low, slot_high)
        self.now_ms = NOW_MS
        self.seq = 0
        self.counts: dict[int, int] = {}
        self.db = 0
        self.proto = 2
        self.batches = 0

    def scan(self, low: bytes, high: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted((k, v) for k, v in self.engine.items() if low <= k < high))

    def handle(self, args: list[bytes]) -> bytes:
        spec = COMMANDS[args[0].upper()]
        assert spec.handler is not None
        if len(args) != spec.arity and not (spec.arity < 0 and len(args) >= -spec.arity):
            return resp.error(f"ERR wrong number of arguments for '{spec.name.lower()}' command")
        self.view.command_start()
        try:
            return spec.handler(self.view, args, Context(self.now_ms, self.proto, self.db))
        except CommandError as error:
            self.view.command_undo()
            return resp.error(str(error))

    def batch(self, *commands: list[bytes]) -> list[bytes]:
        self.view.begin_batch(self.now_ms, self.seq, self.counts)
        replies = [self.handle(args) for args in commands]
        effects = self.view.finish()
        self.batches += 1
        if effects is not None:
            self.apply(encode_effects(effects))
        return replies

    def apply(self, data: bytes) -> None:
        effects = decode_effects(data)
        assert effects.seq > self.seq
        self.seq = effects.seq
        effects.count_into(self.counts)
        for ranges, items in effects.groups():
            for low, high in ranges:
                for key in [key for key in self.engine if low <= key < high]:
                    del self.engine[key]
            for key, raw in items.items():
                if raw is None:
                    self.engine.pop(key, None)
                else:
                    self.engine[key] = raw

    def run(self, *args: bytes | str | int) -> bytes:
        """One command, as a node would run it; the encoded reply."""
        parts = [part if isinstance(part, bytes) else str(part).encode() for part in args]
        if not COMMANDS[parts[0].upper()].write:
            self.view.begin_read(self.now_ms, self.counts)
            reply = self.handle(parts)
            if not self.view.saw_expired:
                return reply
        return self.batch(parts)[0]

    def live(self) -> dict[bytes, bytes]:
        """What the engine holds beside the expiry index."""
        return {key: raw for key, raw in self.engine.items() if key[:1] == b"m"}


@pytest.fixture
def shard() -> Shard:
    return Shard()


@pytest.fixture
def make_shard() -> type[Shard]:
    return Shard
