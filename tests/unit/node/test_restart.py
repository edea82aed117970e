"""What a node knows after its process, or its machine, went down."""

import random

import pytest

from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
ALL = {1, 2, 3}


def power_cut(cluster, kept=0):
    for number in ALL:
        cluster.power_off(number, kept)
    for number in ALL:
        cluster.start(number)
    cluster.held = set()
    cluster.settle()


@pytest.mark.parametrize("seed", range(6))
def test_what_was_acknowledged_survives_the_loss_of_power_everywhere(seed):
    """Writes go on, held at random; then all nodes lose power, and engines keep what they please."""
    rng = random.Random(seed)
    cluster = Cluster(shards=2, flush_log_bytes=3_000, log_tail_entries=3)
    model = {}
    for _ in range(3):
        clients = [Client(cluster, number) for number in ALL]
        sent = []
        for step in range(60):
            client = rng.choice(clients)
            key, value = f"k{rng.randrange(12)}", f"v{rng.randrange(10**9)}"
            if step % 20 == 10:
                cluster.held = {rng.choice(sorted(ALL))}
            elif step % 20 == 15:
                cluster.held = set()
            elif step == 55:
                cluster.held = set(ALL)
            ticket = client.send("SET", key, value)
            cluster.run()
            sent.append((client, ticket, key, value))
        maybe = {}
        for client, ticket, key, value in sent:
            if client.replies.get(ticket) == OK:
                model[key] = value
                maybe.pop(key, None)
            else:
                maybe.setdefault(key, []).append(value)
        power_cut(cluster, kept=rng.randrange(0, 30))
        for number in ALL:
            reader = Client(cluster, number)
            for key, value in model.items():
                found = reader.ask("GET", key).split(b"\r\n")[1].decode()
                assert found in [value, *maybe.get(key, [])]
        for key, values in maybe.items():
            found = Client(cluster, 1).ask("GET", key)
            if found != b"$-1\r\n":
                value = found.split(b"\r\n")[1].decode()
                assert value in [*values, model.get(key)]
                model[key] = value


def test_a_write_that_nobody_synced_is_gone_and_was_never_acknowledged():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    cluster.held = set(ALL)
    ticket = client.send("SET", "a", "1")
    cluster.run()
    power_cut(cluster)
    assert ticket not in client.replies
    assert Client(cluster, 1).ask("GET", "a") == b"$-1\r\n"


def test_a_write_that_a_majority_synced_stays_though_the_leader_never_learnt_of_it():
    cluster = Cluster()
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.held = {leader}
    cluster.slow = {(other, leader) for other in cluster.followers()}
    ticket = client.send("SET", "a", "1")
    cluster.run()
    assert ticket not in client.replies
    cluster.slow.clear()
    power_cut(cluster)
    assert Client(cluster, 1).ask("GET", "a") == b"$1\r\n1\r\n"


def test_promises_are_kept_over_a_restart():
    cluster = Cluster()
    before = {}
    for _ in range(3):
        cluster.move_leader()
    for number in ALL:
        core = cluster.nodes[number].replicas[0].core
        before[number] = (core.term, getattr(core, "vote", 0))
        cluster.power_off(number)
    for number in ALL:
        cluster.start(number)
        core = cluster.nodes[number].replicas[0].core
        assert (core.term, getattr(core, "vote", 0)) == before[number]


def test_a_restarted_voter_refuses_its_vote_for_as_long_as_a_lease_may_last():
    cluster = Cluster()
    old = cluster.leader()
    voter, candidate = cluster.followers()
    # The candidate has not heard of the leader for long, and only the voter keeps it from office.
    cluster.disconnect(old, candidate)
    cluster.pass_ms(2_000)
    assert cluster.leader() == old
    cluster.stop(voter)
    cluster.start(voter)
    cluster.disconnect(old, candidate)
    cluster.disconnect(old, voter)
    client = Client(cluster, old)
    leased = 0
    while client.send("GET", "a") in client.replies:
        assert not any(cluster.nodes[one].replicas[0].core.is_leader for one in (voter, candidate))
        cluster.nodes[candidate].replicas[0].core.election_us = cluster.clock.us
        cluster.pass_ms(10)
        leased += 10
    assert leased > 200
    cluster.pass_ms(2_000)
    assert any(cluster.nodes[one].serving for one in (voter, candidate))


@pytest.mark.parametrize("kept", [0, 3, 1_000])
def test_an_engine_that_is_ahead_of_or_behind_the_log_is_taken_as_it_is(kept):
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    for _ in range(30):
        client.ask("INCR", "n")
    cluster.pass_ms(100)
    # The engine of this node flushed by itself, and its last log writes never reached the disk.
    node = cluster.follower()
    cluster.power_off(node, kept)
    client = Client(cluster, cluster.leader())
    client.ask("INCR", "n")
    cluster.start(node)
    cluster.pass_ms(500)
    for number in ALL:
        assert Client(cluster, number).ask("GET", "n") == b"$2\r\n31\r\n"
    states = [node.replicas[0].state for node in cluster.nodes.values()]
    assert states[0] == states[1] == states[2]


def test_an_engine_that_lost_what_it_had_flushed_is_not_trusted():
    """The log was compacted behind it: until a leader has brought it up the node may not vote."""
    cluster = Cluster(flush_log_bytes=1_000, log_tail_entries=2)
    client = Client(cluster, cluster.leader())
    for number in range(40):
        client.ask("SET", f"k{number}", "v" * 50)
    node = cluster.follower()
    cluster.stop(node)
    cluster.engines[node] = type(cluster.engines[node])(crashable=True)
    cluster.slow = {(one, node) for one in ALL}
    cluster.start(node)
    assert cluster.nodes[node].replicas[0].core.damaged
    assert cluster.nodes[node].status().shards[0].role == "damaged"
    cluster.pass_ms(3_000)
    assert not cluster.nodes[node].serving
    cluster.release()
    cluster.pass_ms(3_000)
    client = Client(cluster, cluster.leader())
    client.ask("SET", "more", "1")
    cluster.pass_ms(500)
    assert not cluster.nodes[node].replicas[0].core.damaged
    assert Client(cluster, node).ask("DBSIZE") == b":41\r\n"
    # Healed for good: the log says so, too.
    cluster.power_off(node, kept=1_000)
    cluster.start(node)
    assert not cluster.nodes[node].replicas[0].core.damaged


def test_a_damaged_log_heals_from_the_leader():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    for number in range(20):
        client.ask("SET", f"k{number}", "v" * 50)
    node = cluster.follower()
    cluster.stop(node)
    cluster.disks[node].flip("log")
    cluster.engines[node] = cluster.engines[node].crash()
    cluster.start(node)
    cluster.pass_ms(1_000)
    client = Client(cluster, cluster.leader())
    client.ask("SET", "more", "1")
    cluster.pass_ms(500)
    assert not cluster.nodes[node].replicas[0].core.damaged
    assert Client(cluster, node).ask("DBSIZE") == b":21\r\n"
    assert cluster.engines[node].data.keys() == cluster.engines[cluster.leader()].data.keys()
