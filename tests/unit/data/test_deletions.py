"""WATCH on absent keys: the version of an absence."""

from quoit.data.deletions import ABSENT, Deletions
from quoit.data.effects import Effects
from quoit.data.keys import physical_key
from quoit.data.record import STRING
from quoit.data.view import View


def effects_of(view, seq, *steps):
    view.begin_batch(0, seq, {})
    for step in steps:
        step(view)
    return view.finish()


def put(key):
    return lambda view: view.put(0, key, STRING, b"v")


def delete(key):
    return lambda view: view.delete(0, key)


class Shard:
    def __init__(self):
        self.data = {}
        self.seq = 0
        self.deletions = Deletions(0)
        self.view = View(self.data.get, lambda low, high: (), 0, 16383, self.deletions)

    def run(self, *steps):
        effects = effects_of(self.view, self.seq, *steps)
        self.seq = effects.seq
        self.deletions.note(effects)
        for physical, record in effects.items.items():
            if record is None:
                self.data.pop(physical, None)
            else:
                self.data[physical] = record

    def version(self, key):
        self.view.begin_read(0, {})
        return self.view.version(0, key)


def test_absence_has_another_version_after_the_key_came_and_went():
    shard = Shard()
    before = shard.version(b"a")
    shard.run(put(b"a"))
    shard.run(delete(b"a"))
    assert shard.version(b"a") != before


def test_also_when_it_came_and_went_within_one_batch():
    shard = Shard()
    shard.run(put(b"other"))
    before = shard.version(b"a")
    shard.run(put(b"a"), delete(b"a"))
    assert shard.version(b"a") != before


def test_absence_keeps_its_version_while_nothing_is_deleted():
    shard = Shard()
    before = shard.version(b"a")
    shard.run(put(b"b"), put(b"c"))
    assert shard.version(b"a") == before


def test_absence_is_never_taken_for_a_record():
    shard = Shard()
    shard.run(put(b"a"))
    assert not shard.version(b"a") & ABSENT
    assert shard.version(b"b") & ABSENT


def test_inside_a_batch_a_deletion_counts_at_once():
    shard = Shard()
    shard.run(put(b"b"))
    seen = []
    shard.run(
        lambda view: seen.append(view.version(0, b"a")),
        put(b"a"),
        delete(b"a"),
        lambda view: seen.append(view.version(0, b"a")),
        lambda view: view.flush_db(0),
        lambda view: seen.append(view.version(0, b"a")),
    )
    assert len(set(seen)) == 3


def test_after_a_start_everything_may_have_been_deleted():
    physical = physical_key(0, b"a")
    assert Deletions(7).last(physical) == 7
    deletions = Deletions(0)
    deletions.note(Effects(0, 9, {}, [(b"m", b"n")], {}, False))
    assert deletions.last(physical) == 9
