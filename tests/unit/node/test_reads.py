"""When a read is answered: at once under a lease, else after a majority's proof, never from the past."""

import pytest

from quoit.node.messages import decode_frame
from quoit.paxos.messages import Beat
from quoit.raft.messages import Heartbeat
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
NIL = b"$-1\r\n"
ONE = b"$1\r\n1\r\n"
TWO = b"$1\r\n2\r\n"
ALL = {1, 2, 3}


@pytest.fixture
def cluster():
    cluster = Cluster()
    Client(cluster, cluster.leader()).ask("SET", "a", "1")
    return cluster


def isolate(cluster, number):
    for other in ALL - {number}:
        cluster.disconnect(number, other)


def heal(cluster, number):
    for other in ALL - {number}:
        cluster.connect(number, other)


def counters(cluster):
    return cluster.nodes[cluster.leader()].counters


def test_a_read_under_the_lease_is_answered_at_once(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.held = set(ALL)
    ticket = client.send("GET", "a")
    assert client.replies[ticket] == ONE
    assert counters(cluster)["reads_local"] == 1
    assert cluster.nodes[leader].pending == 0
    assert not cluster.nodes[leader].end_turn().frames


def test_a_single_node_needs_no_lease():
    cluster = Cluster(size=1, lease_enabled=False)
    client = Client(cluster, 1)
    client.ask("SET", "a", "1")
    assert client.replies[client.send("GET", "a")] == ONE


def test_a_read_after_the_lease_asks_a_majority(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.clock.us += 400_000
    ticket = client.send("GET", "a")
    assert ticket not in client.replies
    assert cluster.nodes[leader].pending == 1
    cluster.run()
    assert client.replies[ticket] == ONE
    assert counters(cluster)["reads_indexed"] == 1
    # The proof was a new lease.
    assert client.replies[client.send("GET", "a")] == ONE
    assert cluster.idle()


def test_the_lease_is_shorter_than_the_election_timeout_by_twice_the_drift():
    cluster = Cluster(election_timeout_us=1_000_000, drift_ppm=100_000)
    client = Client(cluster, cluster.leader())
    client.ask("SET", "a", "1")
    started = cluster.clock.us
    cluster.clock.us = started + 799_999
    assert client.replies.get(client.send("GET", "a")) == ONE
    cluster.clock.us = started + 800_000
    assert client.replies.get(client.send("GET", "a")) is None


def test_all_reads_of_a_turn_share_one_round():
    cluster = Cluster(lease_enabled=False)
    leader = cluster.leader()
    client = Client(cluster, leader)
    client.ask("SET", "a", "1")
    tickets = [client.send("GET", "a") for _ in range(20)]
    effects = cluster.nodes[leader].end_turn()
    beats = [
        message
        for _, payload in effects.frames
        for _, message in decode_frame(payload).core
        if isinstance(message, (Heartbeat, Beat))
    ]
    assert len(beats) == len(effects.frames) == 2
    cluster.frames += [(leader, peer, payload) for peer, payload in effects.frames]
    cluster.run()
    assert [client.replies[ticket] for ticket in tickets] == [ONE] * 20
    assert counters(cluster)["reads_indexed"] == 20


def test_an_answer_to_an_earlier_round_proves_nothing():
    cluster = Cluster(lease_enabled=False)
    leader = cluster.leader()
    client = Client(cluster, leader)
    # The followers have answered a heartbeat; their answers arrive after the read did.
    cluster.slow = {(other, leader) for other in cluster.followers()}
    cluster.clock.us += 60_000
    for node in cluster.nodes.values():
        node.tick()
    cluster.run()
    assert cluster.waiting
    ticket = client.send("GET", "a")
    cluster.turn(leader)
    question = cluster.frames
    cluster.frames = []
    cluster.release()
    cluster.run()
    assert ticket not in client.replies
    cluster.frames = question
    cluster.run()
    assert client.replies[ticket] == NIL


def test_a_leader_that_was_replaced_does_not_answer_from_the_past(cluster):
    old = cluster.leader()
    client = Client(cluster, old)
    isolate(cluster, old)
    tickets = []
    for _ in range(300):
        cluster.pass_ms(10)
        tickets.append(client.send("GET", "a"))
        if any(number != old and node.serving for number, node in cluster.nodes.items()):
            break
    new = next(number for number, node in cluster.nodes.items() if number != old and node.serving)
    assert Client(cluster, new).ask("SET", "a", "2") == OK
    late = client.send("GET", "a")
    cluster.run()
    assert late not in client.replies
    heal(cluster, old)
    cluster.pass_ms(500)
    assert client.replies[late] == TWO
    # Those before the change were answered by what was true then, the others by the new leader.
    answers = [client.replies[ticket] for ticket in tickets]
    assert answers == sorted(answers)
    assert answers[0] == ONE
    assert cluster.idle()


def test_a_leader_that_hands_over_has_no_lease_any_more(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.slow = {(leader, other) for other in cluster.followers()}
    cluster.nodes[leader].begin_stop()
    ticket = client.send("GET", "a")
    cluster.run()
    assert ticket not in client.replies
    cluster.release()
    cluster.pass_ms(100)
    assert client.replies[ticket] == ONE


def test_a_read_that_was_never_proven_goes_to_the_next_leader():
    cluster = Cluster(lease_enabled=False)
    old = cluster.leader()
    client = Client(cluster, old)
    isolate(cluster, old)
    ticket = client.send("GET", "a")
    cluster.run()
    cluster.pass_ms(1_500)
    assert ticket not in client.replies
    Client(cluster, next(iter(ALL - {old}))).ask("SET", "a", "2")
    heal(cluster, old)
    cluster.pass_ms(500)
    assert client.replies[ticket] == TWO
    assert cluster.idle()


@pytest.mark.parametrize("lease", [True, False])
@pytest.mark.parametrize("at_leader", [True, False])
def test_a_pipeline_reads_its_own_writes(lease, at_leader):
    cluster = Cluster(lease_enabled=lease)
    number = cluster.leader() if at_leader else cluster.follower()
    client = Client(cluster, number)
    tickets = []
    for value in range(5):
        tickets.append((client.send("SET", "a", str(value)), OK))
        tickets.append((client.send("GET", "a"), b"$1\r\n%d\r\n" % value))
        tickets.append((client.send("EXISTS", "a"), b":1\r\n"))
        if value % 2:
            cluster.turn(number)
    cluster.run()
    for ticket, expected in tickets:
        assert client.replies[ticket] == expected
    assert cluster.idle()


@pytest.mark.parametrize("at_leader", [True, False])
def test_commands_behind_a_transaction_come_after_it(at_leader):
    cluster = Cluster()
    client = Client(cluster, cluster.leader() if at_leader else cluster.follower())
    transaction = client.send_exec("INCR n", "GET n")
    read, write = client.send("GET", "n"), client.send("SET", "n", "9")
    cluster.run()
    assert client.replies[transaction] == b"*2\r\n:1\r\n" + ONE
    assert (client.replies[read], client.replies[write]) == (ONE, OK)
    assert client.ask("GET", "n") == b"$1\r\n9\r\n"


def test_a_read_on_another_shard_does_not_wait_for_a_write():
    cluster = Cluster(size=1, shards=4)
    client = Client(cluster, 1)
    slots = cluster.nodes[1].router
    keys = {slots.shard(0, key): key.decode() for key in (b"k%d" % n for n in range(50))}
    cluster.held = {1}
    client.send("SET", keys[0], "1")
    assert client.replies[client.send("GET", keys[1])] == NIL
    waiting = client.send("GET", keys[0])
    fan_out = client.send("MGET", keys[0], keys[1])
    cluster.run()
    assert waiting not in client.replies
    cluster.held = set()
    cluster.run()
    assert client.replies[waiting] == ONE
    assert client.replies[fan_out] == b"*2\r\n" + ONE + NIL


def test_another_sessions_unanswered_write_is_not_seen(cluster):
    leader = cluster.leader()
    client, other = Client(cluster, leader), Client(cluster, leader)
    cluster.held = set(ALL)
    client.send("SET", "a", "2")
    cluster.run()
    assert other.ask("GET", "a") == ONE
    cluster.held = set()
    cluster.run()
    assert other.ask("GET", "a") == TWO


def test_a_read_of_an_expired_key_is_answered_when_its_deletion_is_agreed_on(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    client.ask("SET", "a", "1", "PX", "50")
    cluster.held = set(ALL)
    cluster.clock.us += 51_000
    for node in cluster.nodes.values():
        node.wall_ms = node.dispatcher.wall_ms = cluster.clock.wall_ms()
    ticket = client.send("GET", "a")
    assert ticket not in client.replies
    cluster.run()
    assert ticket not in client.replies
    cluster.held = set()
    cluster.run()
    assert client.replies[ticket] == NIL
    assert 0 not in cluster.nodes[leader].replicas[0].state.counts
    assert client.ask("DBSIZE") == b":0\r\n"
    assert cluster.idle()
