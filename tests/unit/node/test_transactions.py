"""MULTI, EXEC and WATCH at the node: one entry or nothing, wherever they are sent; pinned databases."""

import pytest

from quoit.base.slots import home_slot, slot_of
from quoit.data.table import COMMANDS
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
NIL = b"$-1\r\n"
FAILED = b"*-1\r\n"
CROSS = b"-CROSSSLOT Keys in request"
ALL = {1, 2, 3}


@pytest.fixture
def cluster():
    return Cluster()


def two_keys(cluster):
    """Keys of different shards."""
    slots = cluster.nodes[1].slot_to_shard
    found = {slots[slot_of(b"k%d" % number)]: f"k{number}" for number in range(50)}
    return found[0], found[1]


def test_a_transaction_is_one_entry(cluster):
    leader = cluster.leader()
    raft = cluster.nodes[leader].replicas[0].core
    before = raft.last_index
    client = Client(cluster, leader)
    assert client.transact("SET a 1", "SET b 2", "INCR a", "MGET a b") == (
        b"*4\r\n+OK\r\n+OK\r\n:2\r\n*2\r\n$1\r\n2\r\n$1\r\n2\r\n"
    )
    assert raft.last_index == before + 1


def test_nobody_sees_half_of_a_transaction(cluster):
    leader = cluster.leader()
    client, other = Client(cluster, leader), Client(cluster, leader)
    cluster.held = set(ALL)
    ticket = client.send_exec("SET a 1", "SET b 1")
    cluster.run()
    assert other.ask("MGET", "a", "b") == b"*2\r\n" + NIL + NIL
    cluster.held = set()
    cluster.run()
    assert client.replies[ticket] == b"*2\r\n+OK\r\n+OK\r\n"
    assert other.ask("EXISTS", "a", "b") == b":2\r\n"


def test_a_command_that_fails_does_not_undo_the_others(cluster):
    client = Client(cluster, cluster.leader())
    reply = client.transact("SET a x", "INCR a", "SET b 1")
    assert reply.startswith(b"*3\r\n+OK\r\n-ERR value is not an integer")
    assert reply.endswith(b"\r\n+OK\r\n")
    assert client.ask("EXISTS", "a", "b") == b":2\r\n"


@pytest.mark.parametrize(
    ("lines", "reply"),
    [((), b"*0\r\n"), (("GET a",), b"*1\r\n" + NIL), (("DEL a",), b"*1\r\n:0\r\n")],
)
@pytest.mark.parametrize("lease", [True, False])
def test_transactions_that_change_nothing(lines, reply, lease):
    cluster = Cluster(lease_enabled=lease)
    for number in ALL:
        assert Client(cluster, number).transact(*lines) == reply
    assert cluster.idle()


def test_a_transaction_without_keys_runs_anywhere():
    cluster = Cluster(shards=4)
    reply = Client(cluster, 2).transact("OBJECT HELP")
    assert reply.startswith(b"*1\r\n*")


@pytest.mark.parametrize("lines", [("SET {0} 1", "SET {1} 1"), ("MGET {0} {1}",), ("DBSIZE",)])
def test_a_transaction_over_shards_is_refused_and_forgets_what_it_watched(lines):
    cluster = Cluster(shards=4)
    client = Client(cluster, 1)
    keys = two_keys(cluster)
    assert client.watch(keys[0].encode()) == OK
    assert client.transact(*(line.format(*keys) for line in lines)).startswith(CROSS)
    assert not client.session.watched
    assert client.ask("DBSIZE") == b":0\r\n"
    assert cluster.idle()


def test_what_is_watched_and_what_is_written_must_share_a_shard():
    cluster = Cluster(shards=4)
    client = Client(cluster, 1)
    one, other = two_keys(cluster)
    assert client.watch(one.encode()) == OK
    assert client.watch(other.encode()).startswith(CROSS)
    assert client.watch(one.encode(), other.encode()).startswith(CROSS)
    assert list(client.session.watched) == [(0, one.encode())]
    assert client.transact(f"SET {other} 1").startswith(CROSS)
    assert client.transact(f"SET {other} 1") == b"*1\r\n+OK\r\n"


@pytest.mark.parametrize("number", sorted(ALL))
@pytest.mark.parametrize("proto", [2, 3])
def test_exec_fails_once_if_a_watched_key_changed(cluster, number, proto):
    client, other = Client(cluster, number), Client(cluster, cluster.leader())
    client.session.proto = proto
    assert client.watch(b"a") == OK
    other.ask("SET", "a", "1")
    assert client.transact("SET a 2") == (b"_\r\n" if proto == 3 else FAILED)
    assert other.ask("GET", "a") == b"$1\r\n1\r\n"
    assert client.transact("SET a 2") == b"*1\r\n+OK\r\n"


def test_the_sessions_own_write_counts_as_a_change_as_well(cluster):
    client = Client(cluster, cluster.follower())
    client.watch(b"a")
    client.ask("SET", "a", "1")
    assert client.transact("SET a 2") == FAILED


def test_a_later_watch_does_not_hide_a_change(cluster):
    client, other = Client(cluster, 1), Client(cluster, 1)
    client.watch(b"a")
    other.ask("SET", "a", "1")
    client.watch(b"a", b"b")
    assert client.transact("SET a 2") == FAILED


def test_exec_in_one_go_with_its_watch_waits_for_the_versions(cluster):
    client = Client(cluster, cluster.follower())
    watches = [client.send_watch("a"), client.send_watch("b")]
    done = client.send_exec("SET a 1")
    assert client.session.deferred
    cluster.run()
    assert [client.replies[one] for one in watches] == [OK, OK]
    assert client.replies[done] == b"*1\r\n+OK\r\n"
    assert not client.session.watched
    assert cluster.idle()


def test_a_change_between_a_watch_and_an_exec_sent_in_one_go_is_seen(cluster):
    entry, leader = cluster.follower(), cluster.leader()
    client, other = Client(cluster, entry), Client(cluster, leader)
    client.send_watch("a")
    done = client.send_exec("SET a mine")
    cluster.slow = {(leader, entry)}
    cluster.run()
    other.ask("SET", "a", "theirs")
    cluster.release()
    cluster.run()
    assert client.replies[done] == FAILED
    assert other.ask("GET", "a") == b"$6\r\ntheirs\r\n"


def test_a_write_in_flight_counts_for_watch_as_soon_as_it_is_agreed_on(cluster):
    """The version is that of what is agreed on, so what was in flight fails the EXEC."""
    leader = cluster.leader()
    client, other = Client(cluster, leader), Client(cluster, leader)
    other.ask("SET", "a", "0")
    cluster.held = set(ALL)
    other.send("SET", "a", "1")
    cluster.run()
    assert client.watch(b"a") == OK
    done = client.send_exec("SET a 2")
    cluster.run()
    assert done not in client.replies
    cluster.held = set()
    cluster.run()
    assert client.replies[done] == FAILED
    assert other.ask("GET", "a") == b"$1\r\n1\r\n"


@pytest.mark.parametrize("steps", [["SET a 1"], ["SET a 1", "DEL a"]])
@pytest.mark.parametrize("restart", [False, True])
def test_watch_holds_over_a_change_of_leaders(cluster, steps, restart):
    old = cluster.leader()
    entry = cluster.followers()[1]
    client = Client(cluster, entry)
    assert client.watch(b"a") == OK
    for step in steps:
        Client(cluster, entry).ask(*step.split())
    if restart:
        cluster.stop(old)
        cluster.start(old)
        cluster.settle()
    else:
        cluster.move_leader()
    assert client.transact("SET a mine") == FAILED


def test_watch_of_an_unchanged_key_survives_a_change_of_leaders(cluster):
    Client(cluster, 1).ask("SET", "a", "1")
    client = Client(cluster, cluster.followers()[1])
    assert client.watch(b"a") == OK
    cluster.move_leader()
    assert client.transact("SET a 2") == b"*1\r\n+OK\r\n"


def test_a_watched_key_that_expires_is_a_change(cluster):
    client = Client(cluster, cluster.leader())
    client.ask("SET", "a", "1", "PX", "100")
    client.watch(b"a")
    cluster.pass_ms(300)
    assert client.transact("SET a 2") == FAILED


# What waits behind an EXEC that waits for its WATCH


@pytest.fixture(params=["leader", "follower"])
def entry(cluster, request):
    return cluster.leader() if request.param == "leader" else cluster.follower()


def test_transactions_sent_in_one_go_keep_their_own_watches(cluster, entry):
    client = Client(cluster, entry)
    tickets = []
    for number in range(3):
        client.send_watch("{t}a")
        tickets.append(client.send_exec("INCR {t}a", "GET {t}b"))
        client.send("SET", "{t}b", str(number))
    last = client.send("MGET", "{t}a", "{t}b")
    cluster.run()
    assert [client.replies[one] for one in tickets] == [
        b"*2\r\n:1\r\n" + NIL,
        b"*2\r\n:2\r\n$1\r\n0\r\n",
        b"*2\r\n:3\r\n$1\r\n1\r\n",
    ]
    assert client.replies[last] == b"*2\r\n$1\r\n3\r\n$1\r\n2\r\n"
    assert cluster.idle()


def test_what_waits_keeps_its_database_and_protocol(cluster, entry):
    client = Client(cluster, entry)
    client.send_watch("a")
    client.send_exec("SET a 1")
    session = client.session
    found = []
    for db, proto in ((0, 2), (5, 3), (0, 3)):
        session.db, session.proto = db, proto
        client.send("SET", "x", f"in {db}")
        found.append((client.send("GET", "x"), client.send("GET", "none")))
    session.db, session.proto = 7, 2
    cluster.run()
    assert [client.replies[one] for one, _ in found] == [
        b"$4\r\nin %d\r\n" % db for db in (0, 5, 0)
    ]
    assert [client.replies[one] for _, one in found] == [NIL, b"_\r\n", b"_\r\n"]
    assert (session.db, session.proto) == (7, 2)
    assert cluster.idle()


@pytest.mark.parametrize("end", ["unwatch", "close"])
def test_an_exec_that_waits_keeps_what_it_watches(cluster, entry, end):
    client, other = Client(cluster, entry), Client(cluster, cluster.leader())
    assert client.watch(b"a") == OK
    other.ask("SET", "a", "theirs")
    client.send_watch("a", "{a}b")
    done = client.send_exec("SET a mine")
    assert client.session.deferred
    if end == "unwatch":
        client.session.unwatch()
    else:
        client.node.close_session(client.session)
    cluster.run()
    assert client.replies.get(done) == (FAILED if end == "unwatch" else None)
    assert other.ask("GET", "a") == b"$6\r\ntheirs\r\n"
    assert cluster.idle()


def test_a_watch_that_unwatch_overtook_counts_for_nothing(cluster, entry):
    client, other = Client(cluster, entry), Client(cluster, cluster.leader())
    client.send_watch("a")
    client.session.unwatch()
    cluster.run()
    other.ask("SET", "a", "1")
    assert client.transact("SET a 2") == b"*1\r\n+OK\r\n"


def test_what_waits_is_counted_and_bounded():
    cluster = Cluster(pending_commands_max=5, pending_bytes_max=1_000_000)
    node = cluster.nodes[cluster.follower()]
    client = Client(cluster, node.config.node_id)
    watch, done = client.send_watch("a"), client.send_exec("SET a 1")
    tickets = [client.send("SET", "b", "v" * 100) for _ in range(10)]
    assert node.pending == 5
    assert node.dispatcher.pending_bytes == 300
    refused = [client.replies.get(one, b"")[:5] == b"-BUSY" for one in tickets]
    assert refused == [False] * 3 + [True] * 7
    cluster.run()
    assert (client.replies[watch], client.replies[done]) == (OK, b"*1\r\n+OK\r\n")
    assert [client.replies[one] for one in tickets[:3]] == [OK] * 3
    assert cluster.idle()


def test_a_watch_that_was_refused_fails_the_exec_behind_it_and_may_be_tried_again():
    cluster = Cluster(pending_commands_max=1)
    node = cluster.leader()
    client, other = Client(cluster, node), Client(cluster, node)
    other.send("SET", "b", "1")
    watch = client.send_watch("a")
    assert client.replies[watch].startswith(b"-BUSY")
    cluster.run()
    assert client.transact("SET a 1") == FAILED
    other.send("SET", "b", "1")
    assert client.replies[client.send_watch("a")].startswith(b"-BUSY")
    cluster.run()
    assert client.watch(b"a") == OK
    assert client.transact("SET a 1") == b"*1\r\n+OK\r\n"


# Databases 1..15: one shard each


@pytest.fixture(scope="module")
def spread():
    return Cluster(shards=4)


@pytest.mark.parametrize("db", range(1, 16))
def test_a_numbered_database_is_one_shard(spread, db):
    cluster = spread
    client = Client(cluster, db % 3 + 1)
    client.session.db = db
    keys = [f"k{number}" for number in range(20)]
    words = [word for key in keys for word in (key, f"{key}/{db}")]
    assert client.ask("MSET", *words) == OK
    assert client.ask("DBSIZE") == b":20\r\n"
    assert client.transact("SET k0 x", "SET k1 y", "DBSIZE") == b"*3\r\n+OK\r\n+OK\r\n:20\r\n"
    assert client.ask("GET", "k7") == b"$%d\r\nk7/%d\r\n" % (len(f"k7/{db}"), db)
    home = cluster.nodes[1].slot_to_shard[home_slot(db)]
    for node in cluster.nodes.values():
        for shard, replica in node.replicas.items():
            assert replica.state.counts.get(db, 0) == (20 if shard == home else 0)
    assert client.ask("FLUSHDB") == OK
    assert client.ask("KEYS", "*") == b"*0\r\n"
    assert cluster.idle()


def test_databases_do_not_see_one_another(cluster):
    clients = []
    for db in range(16):
        client = Client(cluster, 1)
        client.session.db = db
        clients.append(client)
        client.ask("SET", "a", str(db))
    assert [client.ask("GET", "a") for client in clients] == [
        b"$%d\r\n%d\r\n" % (len(str(db)), db) for db in range(16)
    ]
    clients[5].ask("FLUSHDB")
    assert [client.ask("DBSIZE") for client in clients] == [
        b":0\r\n" if db == 5 else b":1\r\n" for db in range(16)
    ]
    clients[9].ask("FLUSHALL")
    assert {client.ask("DBSIZE") for client in clients} == {b":0\r\n"}


def test_a_transaction_may_change_databases_of_one_shard(cluster):
    client = Client(cluster, cluster.follower())
    commands = [(0, "SET"), (3, "SET"), (15, "SET")]
    client.ticket += 1
    queue = [(db, COMMANDS[name.encode()], [b"SET", b"a", b"%d" % db]) for db, name in commands]
    client.node.submit_transaction(client.session, client.ticket, queue)
    cluster.run()
    assert client.replies[client.ticket] == b"*3\r\n+OK\r\n+OK\r\n+OK\r\n"
    for db in (0, 3, 15):
        client.session.db = db
        assert client.ask("GET", "a") == b"$%d\r\n%d\r\n" % (len(str(db)), db)
