"""Commands over shards, transactions, expiry, restarts and snapshots."""

import pytest

from quoit.base.slots import slot_of
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
CROSS = b"-CROSSSLOT"


@pytest.fixture(scope="module")
def cluster():
    return Cluster(shards=4)


@pytest.fixture
def client(cluster):
    client = Client(cluster, 1)
    client.ask("FLUSHALL")
    return client


def keys_of_all_shards(cluster):
    found = {}
    for number in range(100):
        key = f"k{number}"
        found.setdefault(cluster.nodes[1].slot_to_shard[slot_of(key.encode())], key)
    return [found[shard] for shard in range(4)]


def test_reads_over_all_shards(cluster, client):
    keys = keys_of_all_shards(cluster)
    for key in keys:
        client.ask("SET", key, key.upper())
    assert client.ask("MGET", *keys, "none") == b"*5\r\n%b$-1\r\n" % b"".join(
        b"$%d\r\n%b\r\n" % (len(key), key.upper().encode()) for key in keys
    )
    assert client.ask("EXISTS", *keys, keys[0]) == b":5\r\n"
    assert client.ask("DBSIZE") == b":4\r\n"
    assert client.ask("KEYS", "*").startswith(b"*4\r\n")
    assert client.ask("RANDOMKEY").split(b"\r\n")[1].decode() in keys


def test_a_scan_visits_every_shard_once(cluster, client):
    keys = keys_of_all_shards(cluster)
    for key in keys:
        client.ask("SET", key, "v")
    cursor, seen = "0", []
    for _ in range(20):
        parts = client.ask("SCAN", cursor, "COUNT", "1").split(b"\r\n")
        cursor = parts[2].decode()
        seen += [part.decode() for part in parts[4:] if part and part[:1] not in b"$*"]
        if cursor == "0":
            break
    assert sorted(seen) == sorted(keys)


def test_writes_over_shards_are_refused_and_change_nothing(cluster, client):
    keys = keys_of_all_shards(cluster)
    assert client.ask("MSET", keys[0], "1", keys[1], "2").startswith(CROSS)
    assert client.ask("DBSIZE") == b":0\r\n"
    assert client.ask("MSET", "{t}a", "1", "{t}b", "2") == OK


def test_flushall_empties_all_databases(cluster, client):
    keys = keys_of_all_shards(cluster)
    for key in keys:
        client.ask("SET", key, "v")
    client.session.db = 3
    client.ask("SET", "pinned", "v")
    assert client.ask("FLUSHALL") == OK
    assert client.ask("DBSIZE") == b":0\r\n"
    client.session.db = 0
    assert client.ask("DBSIZE") == b":0\r\n"
    assert cluster.idle()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_transaction_is_atomic_wherever_it_is_sent(cluster, client, number):
    client = Client(cluster, number)
    client.session.db = 2
    client.ask("DEL", "n")
    assert client.transact("SET n 1", "INCR n", "GET n") == b"*3\r\n+OK\r\n:2\r\n$1\r\n2\r\n"


def test_a_transaction_over_shards_is_refused(cluster, client):
    keys = keys_of_all_shards(cluster)
    assert client.transact(f"SET {keys[0]} 1", f"SET {keys[1]} 1").startswith(CROSS)
    assert client.ask("DBSIZE") == b":0\r\n"


CHANGES = {
    "nothing": ([], True),
    "another key": ([("SET", "other", "1")], True),
    "written": ([("SET", "w", "2")], False),
    "written with the same value": ([("SET", "w", "1")], False),
    "deleted": ([("DEL", "w")], False),
    "deleted and written again": ([("DEL", "w"), ("SET", "w", "1")], False),
    "flushed": ([("FLUSHDB",)], False),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_watch_of_a_key_that_is_there(cluster, name, number):
    steps, holds = CHANGES[name]
    client, other = Client(cluster, number), Client(cluster, 1)
    client.session.db = other.session.db = 5
    other.ask("SET", "w", "1")
    assert client.watch(b"w") == OK
    for step in steps:
        other.ask(*step)
    assert client.transact("SET done 1") == (b"*1\r\n+OK\r\n" if holds else b"*-1\r\n")


@pytest.mark.parametrize(
    ("steps", "holds"),
    [([], True), ([("SET", "w", "1")], False), ([("SET", "w", "1"), ("DEL", "w")], False)],
)
def test_watch_of_a_key_that_is_not_there(cluster, steps, holds):
    client, other = Client(cluster, 2), Client(cluster, 1)
    client.session.db = other.session.db = 6
    other.ask("DEL", "w")
    assert client.watch(b"w") == OK
    for step in steps:
        other.ask(*step)
    assert client.transact("SET done 1") == (b"*1\r\n+OK\r\n" if holds else b"*-1\r\n")


def test_keys_vanish_by_time_on_every_replica_without_being_read(cluster, client):
    client.ask("SET", "a", "1", "PX", "500")
    assert client.ask("GET", "a") == b"$1\r\n1\r\n"
    cluster.pass_ms(1_500)
    assert client.ask("DBSIZE") == b":0\r\n"
    assert not [
        key for engine in cluster.engines.values() for key in engine.data if key[:1] == b"m"
    ]


def test_an_expired_key_is_gone_at_once(cluster, client):
    client.ask("SET", "a", "1", "PX", "100")
    cluster.clock.us += 200_000
    cluster.nodes[1].tick()
    for node in cluster.nodes.values():
        node.tick()
    assert client.ask("GET", "a") == b"$-1\r\n"


def test_a_restarted_node_knows_what_it_knew():
    cluster = Cluster()
    client = Client(cluster, 1)
    for number in range(20):
        client.ask("SET", f"k{number}", str(number))
    for number in (1, 2, 3):
        cluster.stop(number)
    for number in (1, 2, 3):
        cluster.start(number)
    cluster.settle()
    assert Client(cluster, 2).ask("GET", "k7") == b"$1\r\n7\r\n"
    assert Client(cluster, 3).ask("DBSIZE") == b":20\r\n"


def test_a_follower_behind_the_compacted_log_gets_a_snapshot():
    cluster = Cluster(flush_log_bytes=2_000, log_tail_entries=5)
    behind = cluster.follower()
    cluster.stop(behind)
    client = Client(cluster, cluster.leader())
    for number in range(60):
        client.ask("SET", f"k{number}", "v" * 100)
    assert cluster.nodes[cluster.leader()].replicas[0].core.first_index > 30
    cluster.start(behind)
    cluster.pass_ms(2_000)
    assert cluster.nodes[behind].counters["snapshots_installed"] == 1
    user = {key: raw for key, raw in cluster.engines[behind].data.items() if key[:1] == b"m"}
    assert len(user) == 60
    assert client.ask("SET", "after", "1") == OK
    cluster.pass_ms(200)
    raft = cluster.nodes[behind].replicas[0].core
    assert raft.applied_index == cluster.nodes[cluster.leader()].replicas[0].core.applied_index


def test_reads_without_a_lease_ask_a_majority_first():
    cluster = Cluster(lease_enabled=False)
    client = Client(cluster, cluster.leader())
    client.ask("SET", "a", "1")
    others = [number for number in (1, 2, 3) if number != cluster.leader()]
    ticket = client.send("GET", "a")
    for number in others:
        cluster.disconnect(cluster.leader(), number)
    cluster.run()
    assert ticket not in client.replies
    for number in others:
        cluster.connect(cluster.leader(), number)
    cluster.pass_ms(500)
    assert client.replies[ticket] == b"$1\r\n1\r\n"
    assert cluster.nodes[cluster.leader()].counters["reads_local"] == 0
