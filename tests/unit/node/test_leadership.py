"""Which leaderships a node gives away, and what it says of itself."""

from itertools import pairwise

import pytest

from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
ALL = {1, 2, 3}


def test_a_node_whose_disk_hangs_leads_nothing_until_the_disk_answers():
    cluster = Cluster(shards=4)
    number = cluster.leader(0)
    facts = []
    cluster.nodes[number].leadership.trace = lambda event, **detail: facts.append(event)
    led = len(cluster.nodes[number].serving)
    assert led
    cluster.held = {number}
    Client(cluster, number).send("SET", "a", "1")
    cluster.pass_ms(990)
    assert len(cluster.nodes[number].serving) == led
    cluster.pass_ms(500)
    assert not cluster.nodes[number].serving
    assert facts == ["disk_hangs"]
    assert all(replica.core.suspended for replica in cluster.nodes[number].replicas.values())
    # The others lead everything, and go on without it.
    for other in ALL - {number}:
        assert Client(cluster, other).ask("SET", "b", "1") == OK
    # Even when nobody else is there it does not campaign: it could not even vote for itself.
    terms = {shard: replica.core.term for shard, replica in cluster.nodes[number].replicas.items()}
    for other in ALL - {number}:
        cluster.disconnect(number, other)
    cluster.pass_ms(2_000)
    for shard, replica in cluster.nodes[number].replicas.items():
        assert (replica.core.role, replica.core.term) == ("follower", terms[shard])
    cluster.held = set()
    cluster.pass_ms(50)
    assert facts == ["disk_hangs", "disk_answers"]
    assert not any(replica.core.suspended for replica in cluster.nodes[number].replicas.values())


def test_a_disk_that_is_slow_but_answers_in_time_costs_nothing():
    cluster = Cluster()
    leader = cluster.leader()
    client = Client(cluster, leader)
    for _ in range(5):
        cluster.held = {leader}
        ticket = client.send("INCR", "n")
        cluster.pass_ms(900)
        cluster.held = set()
        cluster.run()
        assert ticket in client.replies
    assert cluster.leader() == leader


def test_commands_during_a_hand_over_are_neither_lost_nor_unknown():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    tickets = []
    for _ in range(6):
        tickets.append(client.send("INCR", "n"))
        cluster.nodes[cluster.leader()].begin_stop()
        tickets.append(client.send("INCR", "n"))
        cluster.pass_ms(60)
    assert sorted(client.replies[ticket] for ticket in tickets) == sorted(
        b":%d\r\n" % number for number in range(1, 13)
    )
    assert cluster.idle()


def test_a_hand_over_that_nobody_takes_is_given_up():
    cluster = Cluster()
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.cut = {(leader, other) for other in cluster.followers()}
    cluster.nodes[leader].begin_stop()
    ticket = client.send("SET", "a", "1")
    cluster.run()
    assert ticket not in client.replies
    cluster.cut = set()
    cluster.pass_ms(400)
    assert client.replies[ticket] == OK
    assert cluster.idle()


def test_the_follower_that_is_furthest_is_chosen():
    cluster = Cluster()
    leader = cluster.leader()
    slow, quick = cluster.followers()
    cluster.slow = {(leader, slow)}
    Client(cluster, leader).ask("SET", "a", "1")
    cluster.nodes[leader].begin_stop()
    cluster.run()
    cluster.release()
    cluster.pass_ms(50)
    assert cluster.leader() == quick


def test_a_single_node_hands_nothing_over():
    cluster = Cluster(size=1)
    cluster.nodes[1].begin_stop()
    assert Client(cluster, 1).ask("SET", "a", "1") == OK


@pytest.mark.parametrize("stopping", [False, True])
def test_a_preferred_leader_gets_its_shard_back_unless_the_node_is_stopping(stopping):
    cluster = Cluster(give_back_after_us=500_000)
    preferred = cluster.leader()
    cluster.stop(preferred)
    cluster.settle()
    cluster.start(preferred)
    cluster.nodes[cluster.leader()].stopping = stopping
    cluster.pass_ms(2_600)
    assert (cluster.leader() == preferred) is not stopping


def test_one_shard_is_given_back_at_a_time():
    cluster = Cluster(shards=8, give_back_after_us=500_000)
    preferred = cluster.leader(0)
    mine = {
        shard.id for shard in cluster.nodes[preferred].map.shards if shard.replicas[0] == preferred
    }
    assert len(mine) > 1
    cluster.stop(preferred)
    cluster.settle()
    cluster.start(preferred)
    counts = [0]
    for _ in range(120):
        cluster.pass_ms(50)
        counts.append(len(cluster.nodes[preferred].serving))
    assert counts[-1] == len(mine)
    # Each of the two others gives back one in a second.
    assert max(after - before for before, after in pairwise(counts)) <= 2


def test_a_follower_that_does_not_keep_up_is_not_given_the_shard_back():
    cluster = Cluster(give_back_after_us=500_000)
    preferred = cluster.leader()
    cluster.stop(preferred)
    cluster.settle()
    leader = cluster.leader()
    client = Client(cluster, leader)

    def no_entries(source, target, frame):
        if target == preferred:
            frame.core = [one for one in frame.core if not getattr(one[1], "entries", None)]
        return frame

    cluster.edit = no_entries
    cluster.start(preferred)
    for _ in range(100):
        client.ask("INCR", "n")
    cluster.pass_ms(3_000)
    assert cluster.leader() == leader
    cluster.edit = None
    cluster.pass_ms(3_000)
    assert cluster.leader() == preferred


def test_an_unreachable_leader_is_replaced_and_then_follows():
    cluster = Cluster()
    old = cluster.leader()
    for other in cluster.followers():
        cluster.cut |= {(old, other), (other, old)}
    cluster.pass_ms(1_500)
    new = next(one for one in ALL - {old} if cluster.nodes[one].serving)
    assert not cluster.nodes[old].serving, "it found out that nobody answers"
    cluster.cut = set()
    cluster.pass_ms(500)
    assert [cluster.nodes[number].leader_of(0) for number in sorted(ALL)] == [new] * 3


def test_a_follower_that_was_cut_off_does_not_depose_the_leader():
    cluster = Cluster()
    leader, lonely = cluster.leader(), cluster.follower()
    term = cluster.nodes[leader].replicas[0].core.term
    for other in ALL - {lonely}:
        cluster.cut |= {(lonely, other), (other, lonely)}
    cluster.pass_ms(3_000)
    cluster.cut = set()
    cluster.pass_ms(500)
    assert cluster.leader() == leader
    assert cluster.nodes[leader].replicas[0].core.term == term


def test_what_a_node_says_of_itself():
    cluster = Cluster(shards=4)
    client = Client(cluster, 1)
    client.session.db = 3
    client.ask("SET", "a", "1")
    cluster.pass_ms(100)
    down = next(number for number in (3, 2) if number != cluster.leader(0))
    cluster.stop(down)
    cluster.settle()
    status = cluster.nodes[1].status()
    assert (status.cluster_id, status.node_id, status.node_name) == ("test", 1, "n1")
    assert status.uptime_ms == (cluster.clock.us - 1_000_000) // 1000
    assert [(peer.id, peer.connected) for peer in status.peers] == [
        (number, number != down) for number in (1, 2, 3)
    ]
    assert status.peers[0].heard_ms_ago == 0
    assert [shard.id for shard in status.shards] == [0, 1, 2, 3]
    assert (status.shards[0].slot_low, status.shards[-1].slot_high) == (0, 16383)
    for shard in status.shards:
        assert shard.leader == cluster.leader(shard.id)
        assert shard.role == ("leader" if shard.leader == 1 else "follower")
        assert shard.applied_index <= shard.commit_index <= shard.last_index
    assert [shard.keys for shard in status.shards if shard.keys] == [{3: 1}]
    status.counters["commands"] = -1
    assert cluster.nodes[1].counters["commands"] >= 0, "a copy"


def test_a_node_without_a_replica_says_so():
    cluster = Cluster(size=4)
    outsider = next(number for number, node in cluster.nodes.items() if not node.replicas)
    cluster.pass_ms(50)
    shard = cluster.nodes[outsider].status().shards[0]
    assert (shard.role, shard.leader, outsider in shard.replicas) == (
        "none",
        cluster.leader(),
        False,
    )
