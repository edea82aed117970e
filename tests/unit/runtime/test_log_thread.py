"""The log thread: one write after another, told on the loop; an error is the end."""

import asyncio
import threading

import pytest

from quoit.base.errors import DiskFault
from quoit.quorum.agreement import Entry
from quoit.runtime.disk import RealDisk
from quoit.runtime.log_thread import LogThread
from quoit.storage.api import ShardUpdate
from quoit.storage.log import Log, Write


def write_of(number):
    return Write(b"x", 1, number, False, number, [], [], b"", False, [])


class FakeLog:
    """Notes what is asked of it; fails where told to."""

    def __init__(self, commit_fails=None, note_fails=None):
        self.commit_fails = commit_fails or {}
        self.note_fails = note_fails or {}
        self.calls = []
        self.threads = set()

    def commit(self, write):
        self.threads.add(threading.current_thread().name)
        self.calls.append(("commit", write.sequence))
        if write.sequence in self.commit_fails:
            raise self.commit_fails[write.sequence]

    def note(self, write):
        self.calls.append(("note", write.sequence))
        if write.sequence in self.note_fails:
            raise self.note_fails[write.sequence]


def run(log, numbers, answers):
    """Submit the writes at once; what `done` was told, once there are so many answers."""

    async def main():
        told = []
        enough = asyncio.Event()

        def done(write, error):
            told.append((write.sequence, error, threading.current_thread().name))
            if len(told) == answers:
                enough.set()

        thread = LogThread(log, asyncio.get_running_loop(), done)
        for number in numbers:
            thread.submit(write_of(number))
        await asyncio.wait_for(enough.wait(), 5)
        await asyncio.to_thread(thread.stop)
        await asyncio.sleep(0)
        assert not thread._thread.is_alive()
        return told

    return asyncio.run(main())


def test_each_write_is_told_on_the_loop_when_it_is_durable():
    log = FakeLog()
    told = run(log, range(1, 6), 5)
    assert [(number, error) for number, error, _ in told] == [(n, None) for n in range(1, 6)]
    assert {name for _, _, name in told} == {"MainThread"}
    assert log.threads == {"quoit-log"}
    assert log.calls == [(step, n) for n in range(1, 6) for step in ("commit", "note")]


@pytest.mark.parametrize("error", [DiskFault("sync failed"), ValueError("a bug")])
def test_after_a_failed_commit_nothing_more_is_written(error):
    log = FakeLog(commit_fails={2: error})
    told = run(log, range(1, 6), 2)
    assert [number for number, _, _ in told] == [1, 2]
    assert told[0][1] is None
    assert isinstance(told[1][1], DiskFault)
    assert str(error) in str(told[1][1])
    assert log.calls == [("commit", 1), ("note", 1), ("commit", 2)]


def test_after_a_failed_note_nothing_more_is_written():
    """The write itself was durable and is told so; then the node has to stop."""
    log = FakeLog(note_fails={2: DiskFault("no mark")})
    told = run(log, range(1, 6), 3)
    assert [(number, bool(error)) for number, error, _ in told] == [
        (1, False),
        (2, False),
        (2, True),
    ]
    assert log.calls[-1] == ("note", 2)


def test_stopping_finishes_what_was_submitted():
    log = FakeLog()

    async def main():
        told = []
        thread = LogThread(log, asyncio.get_running_loop(), lambda write, error: told.append(write))
        for number in range(20):
            thread.submit(write_of(number))
        await asyncio.to_thread(thread.stop)
        await asyncio.sleep(0.01)
        return told

    assert len(asyncio.run(main())) == 20


def test_a_slow_sync_is_logged(monkeypatch):
    monkeypatch.setattr("quoit.runtime.log_thread._SLOW_S", -1)
    facts = []
    monkeypatch.setattr(
        "quoit.runtime.log_thread.logger",
        type(
            "Logger", (), {"warning": lambda self, event, **detail: facts.append((event, detail))}
        )(),
    )
    run(FakeLog(), [1], 1)
    assert facts == [("slow_disk", {"sync_ms": 0, "bytes": 1})]


def test_a_real_log_holds_what_was_told_to_be_durable(tmp_path):
    entries = [Entry(index, 1, 0, b"data") for index in range(1, 4)]

    async def main():
        log, _ = Log.open(RealDisk(str(tmp_path)), segment_bytes=1 << 16)
        loop = asyncio.get_running_loop()
        for entry in entries:
            durable = loop.create_future()
            thread = LogThread(
                log, loop, lambda write, error, durable=durable: durable.set_result(error)
            )
            write = log.prepare([ShardUpdate(0, None, [entry], None, None)])
            thread.submit(write)
            assert await asyncio.wait_for(durable, 5) is None
            log.publish(write)
            await asyncio.to_thread(thread.stop)
        log.close()

    asyncio.run(main())
    _, recovery = Log.open(RealDisk(str(tmp_path)), segment_bytes=1 << 16)
    assert recovery.shards[0].entries == entries
    assert not recovery.damaged
