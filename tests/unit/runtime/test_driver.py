"""One process's node: starting, serving, stopping, failing; three of them on loopback."""

import asyncio
import socket
import time

import pytest

from quoit.base.errors import BadRequest, DiskFault, InvariantViolated
from quoit.data.table import COMMANDS
from quoit.node.session import Session
from quoit.runtime import driver as driver_module
from quoit.runtime import transport
from quoit.runtime.directory import DirectoryLock
from quoit.runtime.driver import Driver
from quoit.runtime.options import NodeOptions, PeerAddress
from quoit.runtime.seams import RealClock

OK = b"+OK\r\n"


def free_ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def options(tmp_path, number=1, ports=(0,), **settings):
    peers = [PeerAddress(n, f"n{n}", "127.0.0.1", port, 0, 0) for n, port in enumerate(ports, 1)]
    fields = {"engine": "memory", "election_timeout_us": 150_000, "heartbeat_us": 30_000}
    return NodeOptions(
        node_id=number, name=f"n{number}", cluster_id="c", secret=b"s", peers=peers,
        data_dir=str(tmp_path / f"n{number}"), peer_port=ports[number - 1], **{**fields, **settings},
    )  # fmt: skip


class Client:
    """Asks a driver's node and waits for the reply."""

    def __init__(self, driver):
        self.driver = driver
        self.session = Session(self, 1)
        self.waiting = {}
        self.ticket = 0
        self.flushes = 0

    def fill(self, ticket, reply):
        self.waiting.pop(ticket).set_result(reply)

    def flush(self):
        self.flushes += 1

    def send(self, *words):
        self.ticket += 1
        args = [word.encode() for word in words]
        future = asyncio.get_running_loop().create_future()
        reply = self.driver.node.submit(self.session, self.ticket, COMMANDS[args[0]], args)
        if reply is not None:
            future.set_result(reply)
        else:
            self.waiting[self.ticket] = future
            self.driver.kick()
        return future

    async def ask(self, *words):
        return await asyncio.wait_for(self.send(*words), 8)


def run(main, *args):
    asyncio.run(main(*args))


@pytest.mark.parametrize("engine", ["memory", "rocks"])
def test_a_node_starts_serves_stops_and_remembers(tmp_path, engine):
    async def life(expected):
        driver = Driver(options(tmp_path, engine=engine))
        await driver.start()
        client = Client(driver)
        assert await client.ask("GET", "a") == expected
        assert await client.ask("SET", "a", "1") == OK
        replies = [client.send("INCR", "n") for _ in range(100)]
        assert (await asyncio.gather(*replies))[-1].startswith(b":")
        assert client.flushes < 20
        assert not driver.failed.done()
        await driver.stop()

    run(life, b"$-1\r\n")
    begun = time.monotonic()
    run(life, b"$1\r\n1\r\n")
    assert time.monotonic() - begun < 2

    async def look():
        driver = Driver(options(tmp_path, engine=engine))
        await driver.start()
        assert await Client(driver).ask("GET", "n") == b"$3\r\n200\r\n"
        await driver.stop()

    run(look)


def test_a_directory_serves_one_process_at_a_time(tmp_path):
    async def main():
        first = Driver(options(tmp_path))
        await first.start()
        with pytest.raises(BadRequest, match="another process uses"):
            await Driver(options(tmp_path)).start()
        await first.stop()
        second = Driver(options(tmp_path))
        await second.start()
        await second.stop()

    run(main)


@pytest.mark.parametrize("change", [{"cluster_id": "other"}, {"shards": 9}, {"node_id": 2}])
def test_a_directory_belongs_to_one_node_of_one_cluster(tmp_path, change):
    async def main():
        first = Driver(options(tmp_path))
        await first.start()
        await first.stop()
        changed = options(tmp_path, ports=(0, 0))
        for name, value in change.items():
            setattr(changed, name, value)
        with pytest.raises(BadRequest):
            await Driver(changed).start()

    run(main)


def test_a_lock_is_gone_with_its_holder(tmp_path):
    lock = DirectoryLock(tmp_path / "new" / "deep")
    with pytest.raises(BadRequest, match="--data-dir"):
        DirectoryLock(tmp_path / "new" / "deep")
    lock.release()
    DirectoryLock(tmp_path / "new" / "deep").release()


def test_a_failed_sync_stops_the_node_and_nothing_is_acknowledged(tmp_path):
    async def main():
        driver = Driver(options(tmp_path))
        await driver.start()
        client = Client(driver)
        assert await client.ask("SET", "a", "1") == OK

        def fail(write):
            raise DiskFault("no luck with the disk")

        driver.log_thread._log = type("Broken", (), {"commit": staticmethod(fail)})()
        driver.log_thread.stop()
        broken = driver_module.LogThread(driver.log_thread._log, driver.loop, driver._persisted)
        driver.log_thread = broken
        reply = client.send("SET", "a", "2")
        message = await asyncio.wait_for(driver.failed, 3)
        assert "no luck with the disk" in message
        await asyncio.sleep(0.05)
        assert not reply.done()
        await driver.stop()

    run(main)


@pytest.mark.parametrize("error", [InvariantViolated, ZeroDivisionError])
@pytest.mark.parametrize("where", ["end_turn", "tick", "on_persisted"])
def test_a_bug_stops_the_node(tmp_path, where, error):
    """It must not go on with a state that it does not understand."""

    async def main():
        driver = Driver(options(tmp_path))
        await driver.start()
        driver.loop.set_exception_handler(lambda loop, context: None)
        client = Client(driver)
        assert await client.ask("SET", "a", "1") == OK
        original = getattr(driver.node, where)

        def fail(*args):
            raise error(f"in {where}")

        setattr(driver.node, where, fail)
        client.send("SET", "a", "2")
        try:
            assert f"in {where}" in await asyncio.wait_for(driver.failed, 0.5)
            message = driver.failed.result()
            driver.fail("a second reason is not heard")
            driver.kick()
            await asyncio.sleep(0.02)
            assert driver.failed.result() == message
        finally:
            setattr(driver.node, where, original)
            await driver.stop(grace_s=0.1)

    run(main)


def test_a_flush_that_fails_stops_the_node(tmp_path):
    async def main():
        driver = Driver(options(tmp_path))
        await driver.start()
        client = Client(driver)
        flush = driver.engine.flush

        def fail():
            driver.engine.flush = flush
            raise DiskFault("no room in the engine")

        driver.engine.flush = fail
        driver.node.hold_log_for_flush()
        reply = client.send("SET", "a", "1")
        assert "no room in the engine" in await asyncio.wait_for(driver.failed, 3)
        assert not reply.done()
        await driver.stop()

    run(main)


def test_stopping_waits_for_what_is_in_flight(tmp_path):
    async def main():
        driver = Driver(options(tmp_path))
        await driver.start()
        client = Client(driver)
        await client.ask("SET", "a", "1")
        replies = [client.send("INCR", "n") for _ in range(500)]
        await driver.stop()
        assert [await one for one in replies] == [b":%d\r\n" % n for n in range(1, 501)]

    run(main)


def test_clients_are_accepted_until_the_node_stops(tmp_path):
    async def main():
        driver = Driver(options(tmp_path))
        await driver.start()
        (port,) = free_ports(1)
        made = []

        class Connection(asyncio.Protocol):
            def __init__(self, host):
                made.append(host)

        await driver.serve_clients(Connection, "127.0.0.1", port)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.02)
        assert made == [driver]
        writer.close()
        await driver.stop()
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)

    run(main)


@pytest.fixture
def accepted(monkeypatch):
    """driver -> the connections that it accepted from its peers."""
    found = {}

    class Acceptor(transport.Acceptor):
        def connection_made(self, made):
            super().connection_made(made)
            found.setdefault(self.events, []).append(made)

    monkeypatch.setattr(driver_module, "Acceptor", Acceptor)
    return found


def test_three_nodes_forward_agree_and_survive_one(tmp_path):
    async def main():
        ports = free_ports(3)
        drivers = [Driver(options(tmp_path, number, ports, shards=3)) for number in (1, 2, 3)]
        for driver in drivers:
            await driver.start()
        clients = [Client(driver) for driver in drivers]
        for number, client in enumerate(clients):
            for key in range(10):
                assert await client.ask("SET", f"k{number}/{key}", "v" * 3_000) == OK
        for client in clients:
            assert await client.ask("DBSIZE") == b":30\r\n"
        await drivers[0].stop()
        assert await clients[1].ask("SET", "after", "1") == OK
        assert await clients[2].ask("GET", "after") == b"$1\r\n1\r\n"
        drivers[0] = Driver(options(tmp_path, 1, ports, shards=3))
        await drivers[0].start()
        assert await Client(drivers[0]).ask("DBSIZE") == b":31\r\n"
        assert not any(driver.failed.done() for driver in drivers)
        for driver in drivers:
            await driver.stop(grace_s=0.1)

    run(main)


def test_a_stopped_node_keeps_no_connection_of_its_peers(tmp_path, accepted):
    async def main():
        ports = free_ports(2)
        drivers = [Driver(options(tmp_path, number, ports)) for number in (1, 2)]
        for driver in drivers:
            await driver.start()
        assert await Client(drivers[0]).ask("SET", "a", "1") == OK
        try:
            await drivers[0].stop()
            await asyncio.sleep(0.05)
            assert all(connection.is_closing() for connection in accepted[drivers[0]])
        finally:
            await drivers[1].stop(grace_s=0.1)

    run(main)


def test_a_peer_that_sends_rubbish_does_not_stop_the_node(tmp_path):
    async def main():
        ports = free_ports(2)
        driver = Driver(options(tmp_path, 1, ports))
        await driver.start()
        for data in (b"GET / HTTP/1.1\r\n\r\n", bytes(1_000), b"\xff" * 5_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", ports[0])
            writer.write(data)
            assert await asyncio.wait_for(_rest(reader), 3) == b""
            writer.close()
        assert not driver.failed.done()
        await driver.stop(grace_s=0.1)

    run(main)


async def _rest(reader):
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def test_the_real_clock_runs_forwards():
    clock = RealClock()
    first = clock.now_us()
    assert abs(clock.wall_ms() - time.time() * 1000) < 1_000
    time.sleep(0.002)
    assert 2_000 <= clock.now_us() - first < 1_000_000
