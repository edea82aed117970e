"""A read is never answered with a later write of its own session, whatever becomes of the two."""

import pytest

from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
NIL = b"$-1\r\n"
ONE = b"$1\r\n1\r\n"
TWO = b"$1\r\n2\r\n"


@pytest.fixture
def under_way():
    """(cluster, client, read, write): both ran on the leader; its answers have not arrived yet."""
    cluster = Cluster()
    leader = cluster.leader()
    client = Client(cluster, cluster.follower())
    cluster.slow = {(leader, client.number)}
    read, write = client.send("GET", "a"), client.send("SET", "a", "1")
    cluster.run()
    assert not client.replies
    return cluster, client, read, write


def hand_over(cluster, client):
    """Another node leads, and the client's node knows."""
    old = cluster.leader()
    new = next(one for one in cluster.followers() if one != client.number)
    cluster.nodes[old].serving[0].core.transfer(new, cluster.clock.now_us())
    cluster.run()
    cluster.pass_ms(20)
    assert client.node.leader_of(0) == cluster.leader() == new


def test_a_read_with_a_write_behind_it_is_not_asked_of_a_new_leader(under_way):
    cluster, client, read, write = under_way
    hand_over(cluster, client)
    cluster.pass_ms(100)
    cluster.release()
    cluster.pass_ms(100)
    assert (client.replies[read], client.replies[write]) == (NIL, OK)
    assert cluster.idle()


def test_a_read_without_one_is_asked_of_a_new_leader_at_once(under_way):
    cluster, client, read, write = under_way
    other = Client(cluster, client.number)
    last = client.send("GET", "a")
    alone = other.send("GET", "a")
    cluster.run()
    hand_over(cluster, client)
    cluster.pass_ms(50)
    assert other.replies[alone] == ONE
    assert not client.replies
    cluster.release()
    cluster.pass_ms(100)
    assert [client.replies[one] for one in (read, write, last)] == [NIL, OK, ONE]


@pytest.mark.parametrize("how", ["connection", "time", "leader"])
def test_a_read_whose_later_write_has_no_outcome_is_refused(under_way, how):
    """The write was applied; asked again, the read would see it."""
    cluster, client, read, write = under_way
    last = client.send("GET", "a")
    cluster.run()
    leader = cluster.leader()
    if how == "connection":
        cluster.disconnect(client.number, leader)
        cluster.connect(client.number, leader)
    elif how == "time":
        cluster.edit = lambda source, target, frame: _unanswered(frame, target == client.number)
        cluster.release()
        cluster.pass_ms(3_900)
        assert not client.replies
        cluster.edit = None
        cluster.pass_ms(100)
    else:
        hand_over(cluster, client)
        cluster.pass_ms(700)
    cluster.release()
    cluster.pass_ms(100)
    assert client.replies[read].startswith(b"-CLUSTERDOWN shard 0 did not answer in time")
    assert client.replies[write].startswith(b"-UNKNOWN maybe applied")
    assert client.replies[last] == ONE
    assert cluster.idle()


def _unanswered(frame, wanted):
    if wanted:
        frame.replies, frame.refused = [], []
    return frame


@pytest.mark.parametrize("remote", [False, True])
def test_a_read_in_a_batch_without_an_outcome_is_refused(remote):
    """The batch has reached the others, but the leader never hears of it; the next one agrees on it."""
    cluster = Cluster(outcome_wait_us=200_000)
    leader = cluster.leader()
    client = Client(cluster, cluster.follower() if remote else leader)
    for number in cluster.nodes:
        # The client's own node waits for longer.
        if number != leader:
            cluster.nodes[number].dispatcher.outcome_wait_us = 4_000_000
    cluster.held = set(cluster.followers())
    tickets = [client.send(*one) for one in (("SET", "a", "1"), ("GET", "a"), ("SET", "a", "2"))]
    cluster.run()
    cluster.pass_ms(300)
    assert client.replies[tickets[0]].startswith(b"-UNKNOWN maybe applied")
    assert client.replies[tickets[1]].startswith(b"-CLUSTERDOWN shard 0 did not answer in time")
    assert client.replies[tickets[2]].startswith(b"-UNKNOWN maybe applied")
    cluster.held = set()
    cluster.pass_ms(500)
    assert client.ask("GET", "a") == TWO
    assert cluster.idle()
