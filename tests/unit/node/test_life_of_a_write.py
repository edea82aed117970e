"""When a write is answered, refused or unknown."""

import pytest

from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"


@pytest.fixture
def cluster():
    return Cluster()


def test_no_reply_before_a_majority_has_synced(cluster):
    client = Client(cluster, cluster.leader())
    cluster.held = {1, 2, 3}
    ticket = client.send("SET", "a", "1")
    cluster.run()
    assert ticket not in client.replies
    cluster.held = {1, 2, 3} - {cluster.leader()}
    cluster.run()
    assert ticket not in client.replies, "the leader's own sync is not enough"
    cluster.held = {cluster.follower()}
    cluster.run()
    assert client.replies[ticket] == OK
    assert cluster.idle()


def test_two_followers_are_a_majority_while_the_leaders_disk_is_slow(cluster):
    client = Client(cluster, cluster.leader())
    cluster.held = {cluster.leader()}
    assert client.ask("SET", "a", "1") == OK


def test_batches_are_run_on_top_of_each_other_before_they_are_agreed_on(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.held = {1, 2, 3}
    tickets = []
    for _ in range(3):
        tickets.append(client.send("INCR", "n"))
        cluster.run()
    assert len(cluster.nodes[leader].replicas[0].inflight) == 3
    cluster.held = set()
    cluster.run()
    assert [client.replies[ticket] for ticket in tickets] == [b":1\r\n", b":2\r\n", b":3\r\n"]
    assert cluster.idle()


def test_at_most_four_batches_are_in_flight(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.held = {1, 2, 3}
    for _ in range(7):
        client.send("INCR", "n")
        cluster.run()
    replica = cluster.nodes[leader].replicas[0]
    assert (len(replica.inflight), len(replica.queue)) == (4, 3)
    cluster.held = set()
    cluster.run()
    assert client.ask("GET", "n") == b"$1\r\n7\r\n"


def test_a_write_that_changes_nothing_shares_the_fate_of_the_batch_before_it(cluster):
    client = Client(cluster, cluster.leader())
    cluster.held = {1, 2, 3}
    first = client.send("SET", "a", "1")
    cluster.run()
    second = client.send("SETNX", "a", "2")
    cluster.run()
    assert second not in client.replies
    cluster.held = set()
    cluster.run()
    assert (client.replies[first], client.replies[second]) == (OK, b":0\r\n")


def test_a_read_behind_an_unanswered_write_of_its_session_sees_it(cluster):
    leader = cluster.leader()
    client, other = Client(cluster, leader), Client(cluster, leader)
    cluster.held = {1, 2, 3}
    write = client.send("SET", "a", "1")
    read = client.send("GET", "a")
    assert other.ask("GET", "a") == b"$-1\r\n"
    cluster.held = set()
    cluster.run()
    assert (client.replies[write], client.replies[read]) == (OK, b"$1\r\n1\r\n")


def test_a_follower_forwards_and_answers_in_order(cluster):
    client = Client(cluster, cluster.follower())
    tickets = [client.send("SET", "a", str(number)) for number in range(5)]
    tickets.append(client.send("GET", "a"))
    cluster.run()
    assert [client.replies[ticket] for ticket in tickets] == [OK] * 5 + [b"$1\r\n4\r\n"]
    assert cluster.idle()


def test_a_forwarded_write_whose_connection_breaks_is_unknown_and_never_sent_again(cluster):
    follower, leader = cluster.follower(), cluster.leader()
    client = Client(cluster, follower)
    ticket = client.send("INCR", "n")
    cluster.turn(follower)
    cluster.disconnect(follower, leader)
    cluster.run()
    assert client.replies[ticket].startswith(b"-UNKNOWN maybe applied")
    cluster.connect(follower, leader)
    cluster.settle()
    assert client.ask("GET", "n") == b"$-1\r\n"
    assert cluster.idle()


def test_a_forwarded_read_whose_connection_breaks_is_asked_again(cluster):
    follower, leader = cluster.follower(), cluster.leader()
    Client(cluster, leader).ask("SET", "a", "1")
    client = Client(cluster, follower)
    ticket = client.send("GET", "a")
    cluster.turn(follower)
    cluster.disconnect(follower, leader)
    cluster.run()
    assert ticket not in client.replies
    cluster.connect(follower, leader)
    cluster.pass_ms(100)
    assert client.replies[ticket] == b"$1\r\n1\r\n"


def test_without_a_majority_a_new_command_is_refused_and_not_applied(cluster):
    leader = cluster.leader()
    for number in (1, 2, 3):
        if number != leader:
            cluster.stop(number)
    cluster.pass_ms(1_000)
    client = Client(cluster, leader)
    ticket = client.send("SET", "a", "1")
    cluster.pass_ms(6_000)
    assert client.replies[ticket].startswith(b"-CLUSTERDOWN shard 0 has no leader")
    assert cluster.idle()


def test_a_proposed_write_whose_outcome_nobody_learns_is_unknown(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    cluster.held = {1, 2, 3} - {leader}
    ticket = client.send("SET", "a", "1")
    cluster.run()
    for number in cluster.held:
        cluster.stop(number)
    cluster.pass_ms(5_000)
    assert client.replies[ticket].startswith(b"-UNKNOWN maybe applied")


def test_a_new_leader_decides_what_the_old_one_proposed(cluster):
    leader = cluster.leader()
    client = Client(cluster, leader)
    others = [number for number in (1, 2, 3) if number != leader]
    cluster.held = {leader}
    for number in others:
        cluster.disconnect(leader, number)
    ticket = client.send("SET", "a", "lost")
    cluster.run()
    cluster.held = set()
    cluster.pass_ms(2_000)
    assert Client(cluster, others[0]).ask("SET", "a", "new") == OK
    for number in others:
        cluster.connect(leader, number)
    cluster.pass_ms(1_000)
    # Another entry stands at its index: proven not applied, so it was run again, once.
    assert client.replies[ticket] == OK
    assert client.ask("GET", "a") == b"$4\r\nlost\r\n"
    assert cluster.idle()


def test_busy_when_too_much_waits_and_nothing_is_changed():
    cluster = Cluster(pending_commands_max=3)
    client = Client(cluster, cluster.leader())
    cluster.held = {1, 2, 3}
    tickets = [client.send("INCR", "n") for _ in range(5)]
    assert [client.replies.get(t, b"")[:5] for t in tickets] == [b"", b"", b"", b"-BUSY", b"-BUSY"]
    cluster.held = set()
    cluster.run()
    assert client.ask("GET", "n") == b"$1\r\n3\r\n"
    assert cluster.idle()


def test_busy_when_what_waits_is_too_large():
    cluster = Cluster(pending_bytes_max=1000)
    client = Client(cluster, cluster.leader())
    cluster.held = {1, 2, 3}
    client.send("SET", "a", "v" * 2000)
    ticket = client.send("SET", "b", "v")
    assert client.replies[ticket].startswith(b"-BUSY")
    cluster.held = set()
    cluster.run()
    assert client.ask("SET", "b", "v") == OK


def test_a_full_disk_hands_over_refuses_writes_and_heals_by_itself(cluster):
    """Segments of 1 MiB: the next one is reserved when half of this one is written."""
    leader = cluster.leader()
    client = Client(cluster, leader)
    for number in (1, 2, 3):
        cluster.disks[number].full()
    for number in range(7):
        assert client.ask("SET", f"k{number}", "v" * 100_000) == OK
    node = cluster.nodes[leader]
    assert not node.log.has_room
    cluster.pass_ms(1_000)
    assert all(not one.dispatcher.has_room for one in cluster.nodes.values())
    for number in (1, 2, 3):
        answer = Client(cluster, number).ask("SET", "more", "1")
        assert answer.startswith(b"-DISKFULL")
    assert client.ask("GET", "k3")[:9] == b"$100000\r\n"
    for number in (1, 2, 3):
        cluster.disks[number].full(False)
    cluster.pass_ms(3_000)
    assert client.ask("SET", "more", "1") == OK
    assert cluster.idle()


def test_leaderships_go_back_to_the_preferred_node():
    cluster = Cluster(give_back_after_us=1_000_000)
    preferred = cluster.nodes[1].map.shards[0].replicas[0]
    assert cluster.leader() == preferred
    cluster.stop(preferred)
    cluster.settle()
    assert cluster.leader() != preferred
    cluster.start(preferred)
    cluster.pass_ms(500)
    assert cluster.leader() != preferred
    cluster.pass_ms(3_000)
    assert cluster.leader() == preferred


def test_stopping_hands_leaderships_over(cluster):
    leader = cluster.leader()
    cluster.nodes[leader].begin_stop()
    cluster.pass_ms(50)
    assert cluster.leader() != leader


def test_a_hanging_disk_gives_its_leaderships_away(cluster):
    leader = cluster.leader()
    cluster.held = {leader}
    Client(cluster, leader).send("SET", "a", "1")
    cluster.pass_ms(1_500)
    assert cluster.leader() != leader
