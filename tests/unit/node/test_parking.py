"""What waits on a node: for a leader, for a while, and never more than the bounds."""

import pytest

from quoit.base.slots import slot_of
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
DOWN = b"-CLUSTERDOWN shard 0 has no leader; nothing was changed, try again\r\n"
ALL = {1, 2, 3}


def without_a_leader(**settings):
    """A cluster that cannot elect: every log write is held. Node 1 is asked."""
    cluster = Cluster(**settings)
    cluster.held = set(ALL)
    for number in sorted(ALL):
        cluster.stop(number)
    for number in sorted(ALL):
        cluster.start(number)
    cluster.pass_ms(1_000)
    assert not any(node.serving for node in cluster.nodes.values())
    return cluster, Client(cluster, 1)


def send_one_of_each(client):
    return [
        client.send("SET", "a", "1"),
        client.send("GET", "a"),
        client.send("MGET", "a", "b"),
        client.send("DBSIZE"),
        client.send("RANDOMKEY"),
        client.send("SCAN", "0"),
        client.send("FLUSHALL"),
        client.send_exec("INCR n"),
        client.send_watch("a"),
    ]


def test_commands_wait_for_a_leader_and_are_then_run():
    cluster, client = without_a_leader()
    first, second = client.send("INCR", "n"), client.send("GET", "n")
    cluster.pass_ms(4_000)
    assert not client.replies
    assert cluster.nodes[1].pending == 2
    cluster.held = set()
    cluster.pass_ms(900)
    assert (client.replies[first], client.replies[second]) == (b":1\r\n", b"$1\r\n1\r\n")
    assert cluster.idle()


def test_everything_that_waited_for_too_long_is_refused():
    cluster, client = without_a_leader(leader_wait_us=2_000_000)
    tickets = send_one_of_each(client)
    cluster.pass_ms(1_990)
    assert not client.replies
    assert cluster.nodes[1].pending == len(tickets)
    cluster.pass_ms(20)
    assert [client.replies[ticket] for ticket in tickets] == [DOWN] * len(tickets)
    assert cluster.nodes[1].counters["refused"] == len(tickets)
    assert cluster.nodes[1].counters["unknown_outcomes"] == 0
    assert cluster.idle()
    cluster.held = set()
    cluster.settle()
    assert client.ask("DBSIZE") == b":0\r\n", "what was refused is never applied"


def test_only_what_is_overdue_is_refused():
    cluster, client = without_a_leader(leader_wait_us=1_000_000)
    early = client.send("INCR", "n")
    cluster.pass_ms(600)
    late = client.send("INCR", "n")
    cluster.pass_ms(500)
    assert client.replies == {early: DOWN}
    cluster.held = set()
    cluster.settle()
    cluster.run()
    assert client.replies[late] == b":1\r\n"
    assert cluster.idle()


def test_a_fan_out_fails_as_a_whole_where_one_shard_has_no_leader():
    cluster = Cluster(shards=4, leader_wait_us=500_000)
    client = Client(cluster, 1)
    slots = cluster.nodes[1].slot_to_shard
    keys = {}
    for number in range(100):
        keys.setdefault(slots[slot_of(b"k%d" % number)], f"k{number}")

    def without_shard_2(source, target, frame):
        frame.core = [pair for pair in frame.core if pair[0] != 2]
        return frame

    cluster.edit = without_shard_2
    cluster.pass_ms(1_500)
    tickets = [client.send("MGET", *keys.values()), client.send("DBSIZE")]
    alive = client.send("MGET", keys[0], keys[1])
    cluster.pass_ms(600)
    assert [client.replies[one][:20] for one in tickets] == [b"-CLUSTERDOWN shard 2"] * 2
    assert client.replies[alive] == b"*2\r\n$-1\r\n$-1\r\n"
    assert cluster.idle()


def test_the_replies_of_a_client_that_left_are_dropped_when_they_come():
    cluster, client = without_a_leader()
    client.send("SET", "a", "1")
    client.node.close_session(client.session)
    cluster.held = set()
    cluster.pass_ms(1_000)
    assert not client.replies
    assert Client(cluster, 2).ask("GET", "a") == b"$1\r\n1\r\n"
    assert cluster.idle()


def test_a_transaction_whose_watch_failed_is_not_run():
    cluster, client = without_a_leader(leader_wait_us=1_000_000)
    watch = client.send_watch("a")
    done = client.send_exec("SET a mine")
    cluster.pass_ms(1_020)
    assert client.replies[watch] == DOWN
    cluster.held = set()
    cluster.pass_ms(900)
    assert client.replies[done] == b"*-1\r\n"
    assert client.ask("EXISTS", "a") == b":0\r\n"


# Bounds


def test_every_kind_of_command_is_refused_when_too_much_waits():
    cluster, client = without_a_leader(pending_commands_max=2)
    kept = [client.send("INCR", "n"), client.send("INCR", "n")]
    refused = send_one_of_each(client)
    assert all(client.replies[ticket].startswith(b"-BUSY") for ticket in refused)
    assert cluster.nodes[1].counters["busy"] == len(refused)
    assert cluster.nodes[1].pending == 2
    cluster.held = set()
    cluster.pass_ms(1_000)
    assert [client.replies[ticket] for ticket in kept] == [b":1\r\n", b":2\r\n"]
    assert client.session.watch_pending == 0
    assert client.transact("SET a mine") == b"*-1\r\n", "its WATCH was refused"
    assert cluster.idle()


def test_reads_under_the_lease_are_answered_however_much_waits():
    cluster = Cluster(pending_commands_max=1)
    client, other = Client(cluster, cluster.leader()), Client(cluster, cluster.leader())
    cluster.held = set(ALL)
    client.send("SET", "a", "1")
    assert other.ask("GET", "a") == b"$-1\r\n"


def test_the_bound_counts_what_was_sent_to_other_nodes():
    cluster = Cluster(pending_commands_max=2)
    client = Client(cluster, cluster.follower())
    tickets = [client.send("INCR", "n") for _ in range(3)]
    assert client.replies[tickets[2]].startswith(b"-BUSY")
    cluster.run()
    assert client.ask("GET", "n") == b"$1\r\n2\r\n"
    assert cluster.idle()


@pytest.mark.parametrize("kind", ["set", "mset", "exec", "set with options"])
def test_the_bytes_that_wait_are_given_back(kind):
    cluster, client = without_a_leader(pending_bytes_max=1_000)
    value = "v" * 1_000
    if kind == "set":
        client.send("SET", "a", value)
    elif kind == "mset":
        client.send("MSET", "{a}1", value, "{a}2", value)
    elif kind == "exec":
        client.send_exec(f"SET a {value}")
    else:
        client.send("SET", "a", value, "EX", "100")
    for words in (("SET", "b", "1"), ("GET", "b")):
        assert client.replies[client.send(*words)].startswith(b"-BUSY")
    cluster.held = set()
    cluster.pass_ms(1_000)
    assert client.ask("SET", "b", value) == OK
    assert cluster.idle()


def test_a_storm_leaves_nothing_behind():
    """Leaders come and go under load: every command is answered once, and all counters return to 0."""
    cluster = Cluster(shards=4, leader_wait_us=700_000, outcome_wait_us=600_000)
    clients = [Client(cluster, number) for number in (1, 2, 3, 1, 2, 3)]
    sent = [[] for _ in clients]
    for step in range(60):
        for client, tickets in zip(clients, sent, strict=True):
            key = f"k{(step * 7 + client.ticket) % 23}"
            tickets.append(client.send("INCR", key))
            tickets.append(client.send("MGET", key, "other"))
            if step % 3 == 0:
                tickets.append(client.send_watch(key))
                tickets.append(client.send_exec(f"INCR {key}"))
            if step % 10 == 0:
                tickets.append(client.send("DBSIZE"))
                tickets.append(client.send("DEL", "k1", "k2", "k3"))
        one, other = (step % 3) + 1, ((step + 1) % 3) + 1
        if step % 6 == 1:
            cluster.disconnect(one, other)
        elif step % 6 == 4:
            cluster.connect(one, other)
            cluster.connect(1, 3)
            cluster.connect(1, 2)
            cluster.connect(2, 3)
        if step % 7 == 2:
            cluster.nodes[one].begin_stop()
        cluster.held = {other} if step % 5 < 2 else set()
        cluster.pass_ms(10 if step % 4 else 150)
    cluster.held = set()
    for one, other in ((1, 2), (1, 3), (2, 3)):
        cluster.connect(one, other)
    cluster.pass_ms(3_000)
    for client, tickets in zip(clients, sent, strict=True):
        assert sorted(client.replies) == tickets
        assert client.session.watch_pending == 0
        assert not client.session.deferred
    assert cluster.idle()
    assert sum(node.counters["unknown_outcomes"] for node in cluster.nodes.values()) > 0
