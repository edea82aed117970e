"""redis-py, unmodified, over a real socket: with asyncio's transport in place of the test's."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import redis

from tests.unit.gateways.harness import Place


class Server(threading.Thread):
    """The node without agreement, on a loop of its own."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.place = Place(password=b"secret", bulk_bytes_max=4 << 20)
        self.loop = asyncio.new_event_loop()
        self.scheduled = False
        self.place.host.kick = self.kick  # type: ignore[method-assign]
        host = self.place.host
        self.server = self.loop.run_until_complete(
            self.loop.create_server(lambda: self.place.gateway.connect(host), "127.0.0.1", 0)
        )
        self.port = self.server.sockets[0].getsockname()[1]

    def kick(self) -> None:
        if not self.scheduled:
            self.scheduled = True
            self.loop.call_soon(self.turn)

    def turn(self) -> None:
        self.scheduled = False
        self.place.host.turn()

    def run(self) -> None:
        self.loop.run_forever()
        self.server.close()
        self.loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    server.start()
    yield server
    server.loop.call_soon_threadsafe(server.loop.stop)
    server.join(5)


@pytest.fixture(params=[2, 3])
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[redis.Redis]:
    with redis.Redis(
        port=server.port, protocol=request.param, password="secret", socket_timeout=10
    ) as client:
        client.flushall()
        yield client


def test_values(client: redis.Redis) -> None:
    assert client.set("a", 1) and client.incr("a") == 2 and client.get("a") == b"2"
    big = bytes(range(256)) * 12_000
    client.set("big", big)
    assert client.get("big") == big
    pipe = client.pipeline(transaction=False)
    for number in range(5000):
        pipe.set(f"k{number}", number)
    for number in range(5000):
        pipe.get(f"k{number}")
    replies = pipe.execute()
    assert replies[5000:] == [b"%d" % number for number in range(5000)]
    assert client.dbsize() == 5002 == len(set(client.scan_iter(count=500)))


def test_transactions(client: redis.Redis, server: Server) -> None:
    client.set("{t}a", 1)
    with client.pipeline() as pipe:
        pipe.watch("{t}a")
        pipe.multi()
        pipe.incr("{t}a").ping().set("{t}b", "x").get("{t}a")
        assert pipe.execute() == [2, True, True, b"2"]
        pipe.watch("{t}a")
        client.set("{t}a", 9)
        pipe.multi()
        pipe.incr("{t}a")
        with pytest.raises(redis.WatchError):
            pipe.execute()


def test_looking_around(client: redis.Redis) -> None:
    assert client.info()["redis_version"].startswith("7.4")
    assert client.config_get("save") in ({"save": ""}, {b"save": b""})
    assert client.slowlog_get() == [] and client.module_list() == []
    assert len(client.client_list()) >= 1 and client.client_info()["lib-name"] == "redis-py"
    assert client.command_count() == len(client.command())
    assert len(client.cluster("nodes")) == 3
    with pytest.raises(redis.ResponseError, match="unknown command 'NOSUCH'"):
        client.execute_command("NOSUCH", "a")


def test_password(server: Server) -> None:
    with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
        client.get("a")
    with (
        redis.Redis(port=server.port, password="wrong") as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.get("a")


def test_too_long_a_value_is_told(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match="invalid bulk length"):
        client.set("a", b"x" * (6 << 20))
    assert client.get("a") is None
