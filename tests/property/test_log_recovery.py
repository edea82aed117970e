"""The log against a model, through crashes: what is recovered is the state after some write, no
earlier than the last one that was synced (D1, D2, D3), and no bit flip is ever silent (D7)."""

import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.base.errors import Corruption, DiskFault
from quoit.quorum.agreement import Entry, HardState, SnapshotMeta
from quoit.quorum.members import Members
from quoit.sim.disk import SimDisk
from quoit.storage.api import Recovery, ShardUpdate
from quoit.storage.log import Log

SEGMENT_BYTES = 4096
SHARDS = 3


class Model:
    """What one shard's log should be."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.compacted = (0, 0)
        self.entries: list[Entry] = []

    def copy(self) -> "Model":
        twin = Model()
        twin.hard_state, twin.compacted = self.hard_state, self.compacted
        twin.entries = list(self.entries)
        return twin

    @property
    def last_index(self) -> int:
        return self.compacted[0] + len(self.entries)

    def apply(self, update: ShardUpdate) -> None:
        if update.reset is not None:
            self.compacted = (update.reset.index, update.reset.term)
            self.entries = []
        if update.hard_state is not None:
            self.hard_state = update.hard_state
        if update.entries:
            keep = update.entries[0].index - self.compacted[0] - 1
            self.entries = self.entries[:keep] + update.entries
        if update.compacted is not None:
            drop = update.compacted[0] - self.compacted[0]
            self.entries = self.entries[drop:]
            self.compacted = update.compacted

    def facts(self) -> tuple[Any, ...]:
        return (self.hard_state, self.compacted, tuple(self.entries))


class Writer:
    """Makes random, legal updates."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.models = [Model() for _ in range(SHARDS)]
        self.serial = 0

    def updates(self) -> list[ShardUpdate]:
        rng = self.rng
        chosen = [shard for shard in range(SHARDS) if rng.random() < 0.6] or [0]
        return [self.update(shard) for shard in chosen]

    def update(self, shard: int) -> ShardUpdate:
        rng, model = self.rng, self.models[shard]
        update = ShardUpdate(shard, None, [], None, None)
        last = model.last_index
        if rng.random() < 0.15:
            update.hard_state = HardState(model.hard_state.term + 1, rng.randrange(0, 4))
        if rng.random() < 0.05:
            last += rng.randrange(0, 20)
            update.reset = SnapshotMeta(last, model.hard_state.term, Members((1, 2, 3)))
        elif rng.random() < 0.1 and model.entries:
            last -= rng.randrange(0, len(model.entries) + 1)
        for index in range(last + 1, last + 1 + rng.randrange(0, 5)):
            self.serial += 1
            data = b"%d:" % self.serial + bytes(rng.randrange(0, 600))
            update.entries.append(Entry(index, model.hard_state.term, rng.randrange(0, 3), data))
        model.apply(update)
        if rng.random() < 0.2 and model.entries:
            upto = model.entries[rng.randrange(0, len(model.entries))]
            update.compacted = (upto.index, upto.term)
            model.entries = model.entries[upto.index - model.compacted[0] :]
            model.compacted = update.compacted
        return update


def recovered(recovery: Recovery) -> list[tuple[Any, ...]]:
    found = []
    for shard in range(SHARDS):
        known = recovery.find(shard)
        if known is None:
            found.append(Model().facts())
        else:
            assert not known.damaged, recovery.notes
            found.append((known.hard_state, known.compacted, tuple(known.entries)))
    return found


def facts(models: list[Model]) -> list[tuple[Any, ...]]:
    return [model.facts() for model in models]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_recovered_state_is_that_after_the_last_synced_write_or_the_one_under_way(
    seed: int,
) -> None:
    rng = random.Random(seed)
    disk = SimDisk(random.Random(seed + 1))
    writer = Writer(rng)
    log, _ = Log.open(disk, SEGMENT_BYTES)
    for _ in range(rng.randrange(1, 5)):
        for _ in range(rng.randrange(0, 25)):
            write = log.prepare(writer.updates())
            log.commit(write)
            log.note(write)
            log.publish(write)
            log.release()
        before = facts(writer.models)
        possible = [before]
        fate = rng.random()
        if fate < 0.7:
            models = [model.copy() for model in writer.models]
            write = log.prepare(writer.updates())
            if fate < 0.35:
                disk.sync_error()
            try:
                log.commit(write)
                log.note(write)
            except DiskFault:
                possible.append(facts(writer.models))
                writer.models = models
            else:
                possible = [facts(writer.models)]
        disk.clear_faults()
        if rng.random() < 0.3:
            disk.kill()
        else:
            disk.crash(torn=rng.random() < 0.7)
        log, recovery = Log.open(disk, SEGMENT_BYTES)
        assert not recovery.damaged, recovery.notes
        found = recovered(recovery)
        assert found in possible
        # A power cut right after the start must not take back what the start found.
        if rng.random() < 0.5:
            disk.crash(torn=rng.random() < 0.5)
            log, recovery = Log.open(disk, SEGMENT_BYTES)
            assert recovered(recovery) == found
        for shard in range(SHARDS):
            known = recovery.find(shard)
            model = writer.models[shard]
            if known is not None:
                model.hard_state, model.compacted = known.hard_state, known.compacted
                model.entries = list(known.entries)
                check_reader(log, shard, model)


def check_reader(log: Log, shard: int, model: Model) -> None:
    if model.entries:
        low = model.entries[0].index
        read = log.reader(shard).entries(low, low + len(model.entries), 1 << 30)
        assert read == model.entries


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_bit_flip_in_synced_data_is_never_silent(seed: int) -> None:
    rng = random.Random(seed)
    disk = SimDisk(random.Random(seed + 1))
    writer = Writer(rng)
    log, _ = Log.open(disk, SEGMENT_BYTES)
    for _ in range(rng.randrange(1, 40)):
        write = log.prepare(writer.updates())
        log.commit(write)
        log.note(write)
        log.publish(write)
        log.release()
    reach = {
        shard: (model.last_index, model.hard_state) for shard, model in enumerate(writer.models)
    }
    disk.flip("log")
    for shard, model in enumerate(writer.models):
        with suppress(Corruption):
            check_reader(log, shard, model)
    disk.kill()
    for _ in range(2):
        _, recovery = Log.open(disk, SEGMENT_BYTES)
        for shard, (last, state) in reach.items():
            known = recovery.find(shard)
            model = writer.models[shard]
            if known is None:
                assert model.facts() == Model().facts()
            elif known.damaged:
                assert known.must_reach >= last
                assert known.must_term >= state.term
                assert known.hard_state == state
            else:
                assert (known.hard_state, known.compacted, tuple(known.entries)) == model.facts()
        disk.kill()
