"""Batches run on top of batches that are not applied yet give what they give one after another."""

from hypothesis import given
from hypothesis import strategies as st

from quoit.data import commands
from quoit.data.deletions import Deletions
from quoit.data.effects import decode_effects, encode_effects
from quoit.data.errors import CommandError
from quoit.data.table import COMMANDS, Context
from quoit.data.view import View
from quoit.storage.memory import MemoryEngine

_ = commands  # importing the package fills the table

KEYS = [b"a", b"b", b"c"]
key = st.sampled_from(KEYS)
command = st.one_of(
    st.tuples(st.just(b"SET"), key, st.sampled_from([b"1", b"2"])),
    st.tuples(st.just(b"SETNX"), key, st.just(b"3")),
    st.tuples(st.just(b"APPEND"), key, st.just(b"4")),
    st.tuples(st.just(b"INCR"), key),
    st.tuples(st.just(b"DEL"), key),
    st.tuples(st.just(b"GET"), key),
    st.tuples(st.just(b"DBSIZE")),
    st.tuples(st.just(b"KEYS"), st.just(b"*")),
    st.tuples(st.just(b"FLUSHDB")),
    st.tuples(st.just(b"PEXPIRE"), key, st.just(b"3")),
)


class Leader:
    """A shard's engine and view; `depth` batches may be in flight."""

    def __init__(self, depth):
        self.depth = depth
        self.engine = MemoryEngine()
        self.deletions = Deletions(0)
        self.view = View(self.engine.get, self.engine.scan, 0, 16383, self.deletions)
        self.seq = 0
        self.counts = {}
        self.flight = []
        self.context = Context()

    def run(self, batch, now_ms):
        below = list(self.flight)
        seq, counts = self.seq, dict(self.counts)
        for effects in below:
            seq = effects.seq
            effects.count_into(counts)
        self.view.begin_batch(now_ms, seq, counts, below)
        self.context.now_ms = now_ms
        replies = []
        for args in batch:
            self.view.command_start()
            try:
                replies.append(COMMANDS[args[0]].handler(self.view, list(args), self.context))
            except CommandError as error:
                self.view.command_undo()
                replies.append(str(error))
        replies.append(self.view.version(0, b"a"))
        effects = self.view.finish()
        if effects is not None:
            self.flight.append(effects)
        while len(self.flight) > self.depth:
            self.apply()
        return replies

    def apply(self):
        effects = decode_effects(encode_effects(self.flight.pop(0)))
        self.seq = effects.seq
        effects.count_into(self.counts)
        self.deletions.note(effects)
        self.engine.write(effects.groups())


@given(st.lists(st.lists(command, min_size=1, max_size=4), max_size=12), st.integers(1, 4))
def test_replies_and_data_do_not_depend_on_what_is_applied_yet(batches, depth):
    one, many = Leader(0), Leader(depth)
    for number, batch in enumerate(batches):
        assert one.run(batch, number) == many.run(batch, number)
    while many.flight:
        many.apply()
    assert one.engine.data == many.engine.data
    assert (one.seq, one.counts) == (many.seq, many.counts)
