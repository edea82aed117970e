"""A long life with kills, power cuts, failed syncs, flips and healing: at no start does a replica
that is not flagged as damaged lack anything that was synced, and a flagged one knows what it owes."""

import random
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from quoit.base.errors import DiskFault
from quoit.sim.disk import SimDisk
from quoit.storage.api import Recovery
from quoit.storage.log import Log
from tests.property.test_log_recovery import SEGMENT_BYTES, Model, Writer


class Life:
    """owed: shard -> (last index, term) that the shard may have acknowledged, while it is damaged."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = SimDisk(random.Random(seed + 1))
        self.writer = Writer(self.rng)
        self.owed: dict[int, tuple[int, int]] = {}
        self.log, _ = Log.open(self.disk, SEGMENT_BYTES)
        self.under_way: list[Model] | None = None

    def write(self, *, fail: bool = False) -> None:
        before = [model.copy() for model in self.writer.models]
        updates = self.writer.updates()
        for update in updates:
            if update.shard in self.owed and self.rng.random() < 0.3:
                update.healed = True
        write = self.log.prepare(updates)
        if fail:
            self.disk.sync_error()
            with suppress(DiskFault):
                self.log.commit(write)
                self.log.note(write)
            self.under_way, self.writer.models = self.writer.models, before
            return
        self.log.commit(write)
        self.log.note(write)
        self.log.publish(write)
        self.log.release()
        for update in updates:
            if update.healed:
                del self.owed[update.shard]

    def restart(self) -> None:
        """The process or the machine dies, sometimes in the middle of a write; perhaps a bit flips."""
        rng, disk = self.rng, self.disk
        self.under_way = None
        if rng.random() < 0.4:
            self.write(fail=True)
        disk.clear_faults()
        if rng.random() < 0.5:
            disk.kill()
            # Why not after a power cut: that may take the newest marks, and then a flip in the very
            # last record looks like a torn write. No disk of one node can tell these two apart.
            if rng.random() < 0.4:
                disk.flip(rng.choice(["log", "log", "mark"]))
        else:
            disk.crash(torn=rng.random() < 0.7)
        while True:
            if rng.random() < 0.1:
                disk.sync_error()
            try:
                self.log, recovery = Log.open(disk, SEGMENT_BYTES)
            except DiskFault:
                disk.clear_faults()
                disk.kill()
                continue
            break
        self.check(recovery)

    def check(self, recovery: Recovery) -> None:
        for shard, model in enumerate(self.writer.models):
            known = recovery.find(shard)
            choices = [model] if self.under_way is None else [model, self.under_way[shard]]
            last, term = self.owed.get(shard, (0, 0))
            if known is None:
                assert Model().facts() in [choice.facts() for choice in choices]
                continue
            found = (known.hard_state, known.compacted, tuple(known.entries))
            if not known.damaged:
                healed = shard not in self.owed or self.under_way is not None
                assert healed, "an unhealed shard was reported as whole"
                assert found in [choice.facts() for choice in choices]
                self.owed.pop(shard, None)
            else:
                if shard not in self.owed:
                    assert recovery.damaged
                    assert known.must_reach >= model.last_index
                assert known.must_reach >= last
                assert known.must_term >= term
                assert not recovery.damaged or known.must_term >= model.hard_state.term
                assert known.hard_state.term >= model.hard_state.term
                if known.hard_state.term == model.hard_state.term:
                    assert (
                        known.hard_state.vote == model.hard_state.vote or not model.hard_state.vote
                    )
                self.owed[shard] = (known.must_reach, known.must_term)
            model.hard_state, model.compacted = known.hard_state, known.compacted
            model.entries = list(known.entries)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_a_replica_that_is_not_flagged_lacks_nothing_and_a_flagged_one_knows_what_it_owes(
    seed: int,
) -> None:
    life = Life(seed)
    for _ in range(life.rng.randrange(1, 8)):
        for _ in range(life.rng.randrange(0, 20)):
            life.write()
        life.restart()
