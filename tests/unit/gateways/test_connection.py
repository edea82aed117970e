"""Reply slots, order, writes, backpressure, the ends of connections."""

import pytest

from quoit.base.errors import Corruption
from quoit.data.table import COMMANDS
from quoit.gateways.resp.own import OWN
from quoit.gateways.resp.splice import elements, end_of
from tests.unit.gateways.harness import Client, FakeNode, Place, encode, key_of_shard

OK = b"+OK\r\n"


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def client(place: Place) -> Client:
    return place.client()


def test_immediate_replies_are_one_write(place: Place, client: Client) -> None:
    client.run("SET", "a", "1")
    client.send(encode("GET", "a") * 5 + encode("PING") + encode("NOSUCH") + encode("GET"))
    assert len(client.transport.writes) == 1
    assert client.taken().startswith(b"$1\r\n1\r\n" * 5 + b"+PONG\r\n-ERR unknown command")
    kicks = place.host.kicks
    client.send(encode("GET", "a"))
    assert place.host.kicks == kicks, "nothing waits, so no turn is needed"


def test_replies_keep_their_order(place: Place, client: Client) -> None:
    client.send(encode("SET", "a", "1") + encode("PING") + encode("SET", "b", "2"))
    assert client.taken() == b"" and place.host.kicks == 1
    _, *_ = queue = place.host.node.queue
    assert [item[1] for item in queue] == [0, 2]
    connection = client.connection
    connection.fill(2, b"+second\r\n")
    connection.flush()
    assert client.taken() == b""
    connection.fill(0, b"+first\r\n")
    connection.flush()
    assert client.transport.writes == [b"+first\r\n+PONG\r\n+second\r\n"]
    place.host.node.queue.clear()
    client.taken()
    client.send(encode("SET", "a", "1"))
    assert place.host.node.queue[0][1] == 3, "tickets never repeat"


def test_a_pipeline_reads_its_own_writes(client: Client) -> None:
    assert client.raw(encode("SET", "a", "1") + encode("GET", "a")) == OK + b"$1\r\n1\r\n"


def test_names_in_any_case(client: Client) -> None:
    assert client.run("set", "a", "1") == OK
    assert client.run("GeT", "a") == b"$1\r\n1\r\n"
    assert b"'nOsuch'" in client.run("nOsuch")


def test_a_client_that_does_not_read(place: Place, client: Client) -> None:
    client.run("SET", "big", b"x" * 50_000)
    client.transport.jammed = True
    client.send(encode("GET", "big") * 100)
    assert not client.transport.reading
    ran = place.host.node.submitted
    assert ran < 10, "the rest of the pipeline waits"
    client.send(encode("GET", "big") * 3)
    assert place.host.node.submitted == ran
    client.transport.unjam()
    assert place.host.node.submitted == 104 and client.transport.reading
    assert len(client.taken()) == 103 * 50_010


def test_too_many_unanswered() -> None:
    place = Place(unanswered_max=10)
    client = place.client()
    client.send(encode("SET", "a", "1") * 11)
    assert not client.transport.reading
    place.host.turn()
    assert client.transport.reading and client.taken() == OK * 11


def test_replies_behind_a_slow_one_are_bounded() -> None:
    place = Place(held_bytes_max=200_000)
    client = place.client()
    client.run("SET", "{a}big", b"x" * 50_000)
    node = place.host.node
    client.send(encode("SET", "{a}slow", "1"))
    waiting, node.queue = node.queue, []
    node.submitted = 0
    client.send(encode("GET", "{a}big") * 100)
    assert node.submitted < 8 and not client.transport.reading
    node.queue = waiting
    place.host.turn()
    assert node.submitted == 100 and client.transport.reading
    assert len(client.taken()) == len(OK) + 100 * 50_010


def test_output_limit_disconnects() -> None:
    place = Place(output_bytes_max=300_000)
    client = place.client()
    client.run("SET", "big", b"x" * 50_000)
    place.host.node.reads_wait = True
    client.transport.jammed = True
    client.send(encode("GET", "big") * 20)
    place.host.turn()
    assert client.transport.aborted and place.gateway.output_limit_disconnections == 1


def test_lost_while_replies_wait(place: Place, client: Client) -> None:
    client.send(encode("SET", "a", "1"))
    client.lost()
    assert place.host.node.closed == [1] and not place.gateway.clients
    place.host.turn()
    assert client.taken() == b""
    assert place.client().run("GET", "a") == b"$1\r\n1\r\n", "what was sent goes on"


def test_quit_behind_a_write(place: Place, client: Client) -> None:
    client.send(encode("SET", "a", "1") + encode("QUIT") + encode("SET", "a", "2"))
    client.send(encode("PING"))
    assert not client.transport.closed
    place.host.turn()
    assert client.taken() == OK + OK and client.transport.closed
    assert place.client().run("GET", "a") == b"$1\r\n1\r\n"


def test_protocol_error_behind_a_write(place: Place, client: Client) -> None:
    client.send(encode("SET", "a", "1") + b"*1\r\n:1\r\n")
    assert not client.transport.closed
    place.host.turn()
    assert client.taken() == OK + b"-ERR Protocol error: expected '$', got ':'\r\n"
    assert client.transport.closed and not client.transport.eof_written


def test_half_closed_client_gets_its_replies(place: Place, client: Client) -> None:
    client.send(encode("SET", "a", "1"))
    assert client.connection.eof_received()
    place.host.turn()
    assert client.taken() == OK and client.transport.closed
    assert not place.client().connection.eof_received()


def test_oversize_value_is_told_and_its_bytes_ignored() -> None:
    place = Place(bulk_bytes_max=1_000_000)
    client = place.client()
    answer = client.raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5000000\r\n" + b"x" * 100)
    assert answer == b"-ERR Protocol error: invalid bulk length\r\n"
    assert client.transport.eof_written and not client.transport.aborted
    for _ in range(50):
        client.send(b"x" * 100_000)
    assert not client.transport.aborted and client.taken() == b""
    for _ in range(40):
        client.send(b"x" * 16_000_000)
    assert client.transport.aborted, "nobody may send for ever"


def test_too_many_clients() -> None:
    place = Place(clients_max=1)
    place.client()
    second = place.client()
    assert second.taken() == b"-ERR max number of clients reached\r\n"
    assert second.transport.closed and len(place.gateway.clients) == 1
    second.lost()
    assert len(place.gateway.clients) == 1


def test_damage_stops_the_node(
    place: Place, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(*_: object) -> bytes:
        raise Corruption("bad block")

    monkeypatch.setattr(place.host.node, "submit", submit)
    client.send(encode("PING") + encode("GET", "a"))
    assert place.host.failures == ["bad block"]
    assert client.transport.aborted and client.taken() == b""


def test_password_is_compared_whole() -> None:
    place = Place(password=b"secret")
    for wrong in (b"secre", b"secrets", b"", b"Secret"):
        assert place.client().run("AUTH", wrong).startswith(b"-WRONGPASS")
    client = place.client()
    assert client.run("PING").startswith(b"-NOAUTH")
    assert place.host.node.submitted == 0
    assert client.raw(encode("AUTH", "secret") + encode("GET", "a")) == OK + b"$-1\r\n"


def test_silent_clients(place: Place, client: Client) -> None:
    client.send(encode("CLIENT", "REPLY", "OFF") + encode("SET", "a", "1") * 3 + encode("BAD"))
    place.host.turn()
    assert client.taken() == b"" and client.connection.buffered() == (0, 0, 0)
    assert client.run("CLIENT", "REPLY", "ON") == OK
    assert client.raw(
        encode("CLIENT", "REPLY", "SKIP") + encode("SET", "a", "2") + encode("PING")
    ) == (b"+PONG\r\n")


def test_unwatch_behind_a_watch(place: Place, client: Client) -> None:
    """UNWATCH pipelined behind its WATCH, whose versions come later."""
    client.send(encode("WATCH", "a") + encode("UNWATCH"))
    place.host.turn()
    assert client.taken() == OK + OK and not client.connection.session.watched
    # A WATCH behind the UNWATCH must hold.
    client.send(encode("WATCH", "a") + encode("UNWATCH") + encode("WATCH", "a"))
    place.host.turn()
    client.taken()
    assert (0, b"a") in client.connection.session.watched


def test_pipelined_transaction(place: Place, client: Client) -> None:
    pipeline = [["WATCH", "a"], ["MULTI"], ["PING"], ["SET", "a", "1"], ["GET", "a"], ["EXEC"]]
    client.send(b"".join(encode(*command) for command in pipeline))
    place.host.turn()
    assert client.taken() == (OK + OK + b"+QUEUED\r\n" * 3 + b"*3\r\n+PONG\r\n+OK\r\n$1\r\n1\r\n")


def test_transaction_over_two_shards_is_refused_at_once(place: Place, client: Client) -> None:
    node = place.host.node
    one, other = key_of_shard(node, 0), key_of_shard(node, 1)
    client.run("MULTI")
    assert client.run("SET", one, "1") == b"+QUEUED\r\n"
    assert client.run("SET", other, "1").startswith(b"-CROSSSLOT")
    assert client.run("EXEC").startswith(b"-EXECABORT")
    client.run("SELECT", 5)
    client.run("MULTI")
    client.run("SET", one, "1")
    assert client.run("SET", other, "1") == b"+QUEUED\r\n", "a pinned database is one shard"
    assert client.run("EXEC") == b"*2\r\n+OK\r\n+OK\r\n"


def test_transaction_is_bounded(client: Client) -> None:
    client.run("MULTI")
    value = b"x" * (15 << 20)
    assert client.run("SET", "a", value) == b"+QUEUED\r\n"
    assert client.run("SET", "a", value) == b"+QUEUED\r\n"
    assert b"too big" in client.run("SET", "a", value)
    assert client.run("EXEC").startswith(b"-EXECABORT")


def test_every_own_command_survives_odd_arguments(place: Place) -> None:
    """No argument list may raise: the gateway would lose the connection."""
    odd = [b"", b"\xff\xfe", b"-1", b"99999999999999999999", b"HELP", b"GET", b"*" * 200, b"ID"]
    for name in OWN:
        for subcommand in (*COMMANDS[name.encode()].subcommands, "NOSUCH"):
            for extra in ([], *([word] for word in odd), odd[:2], odd[2:5], odd):
                client = place.client()
                client.send(encode(name, subcommand, *extra))
                place.host.turn()
                assert not place.host.failures
                client.lost()


def test_exec_survives_every_own_command(place: Place) -> None:
    for name in OWN:
        client = place.client()
        client.run("MULTI")
        client.run(name, *(["x"] * (abs(COMMANDS[name.encode()].arity) - 1)))
        client.run("SET", "a", "1")
        client.run("EXEC")
        client.lost()
        place.host.turn()
    assert place.client().run("PING") == b"+PONG\r\n"


def test_elements() -> None:
    parts = [
        b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"$2\r\n\r\n\r\n", b"*0\r\n", b"*-1\r\n", b"_\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n", b"%1\r\n+a\r\n*1\r\n:2\r\n", b"~1\r\n#t\r\n", b",1.5\r\n",
        b"=5\r\ntxt:a\r\n", b"-ERR no\r\n",
    ]  # fmt: skip
    data = b"*%d\r\n" % len(parts) + b"".join(parts)
    assert elements(data) == parts
    assert end_of(data, 0) == len(data)
    assert end_of(b"*1\r\n" * 100_000 + b":1\r\n", 0) == 400_004


def test_slot_keys_walk_several_pages(place: Place, client: Client) -> None:
    for number in range(2500):
        client.send(encode("SET", f"{{t}}{number}", "x"))
    place.host.turn()
    client.taken()
    slot = client.run("CLUSTER", "KEYSLOT", "{t}")[1:-2]
    place.host.node.reads_wait = True
    assert client.raw(encode("CLUSTER", "COUNTKEYSINSLOT", slot) + encode("PING")) == (
        b":2500\r\n+PONG\r\n"
    )
    assert client.run("CLUSTER", "GETKEYSINSLOT", slot, 1200).startswith(b"*1200\r\n")


def test_client_list_knows_everybody(place: Place, client: Client) -> None:
    other = place.client()
    other.run("CLIENT", "SETNAME", "other")
    listing = client.run("CLIENT", "LIST").decode()
    assert "id=1 " in listing and "name=other" in listing
    other.lost()
    assert "name=other" not in client.run("CLIENT", "LIST").decode()


def test_command_table_is_described(client: Client) -> None:
    count = int(client.run("COMMAND", "COUNT")[1:-2])
    assert count == len(COMMANDS) > 80
    assert len(elements(client.run("COMMAND"))) == count
    for proto in (2, 3):
        client.connection.session.proto = proto
        reply = client.run("COMMAND", "DOCS")
        assert end_of(reply, 0) == len(reply)
    assert all(spec.summary for spec in COMMANDS.values())


def test_info_has_what_exporters_read(client: Client) -> None:
    client.run("SET", "a", "1")
    text = client.run("INFO", "everything").decode()
    for field in (
        "redis_version:7.4", "connected_clients:1", "used_memory:", "maxmemory:0", "role:master",
        "cluster_enabled:0", "total_commands_processed:", "used_cpu_sys:", "# Keyspace", "db0:keys=",
        "# Quoit", "quoit_shards:4", "cmdstat_set:calls=1,", "uptime_in_seconds:61",
    ):  # fmt: skip
        assert field in text, field


def test_fake_node_is_a_node() -> None:
    """The test's node has the methods of the real one, so that these tests mean something."""
    from quoit.node.node import Node

    for name in ("submit", "submit_transaction", "watch", "close_session", "status"):
        assert hasattr(Node, name) and hasattr(FakeNode, name)
