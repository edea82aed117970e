"""Keys whose time has come are deleted by their shard's leader, as an effect, and by nobody else."""

import pytest

from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
NIL = b"$-1\r\n"
ALL = {1, 2, 3}


def held(cluster, prefix=b"m"):
    """node -> how many pairs its engine holds under the prefix."""
    return {
        number: sum(1 for key in engine.data if key.startswith(prefix))
        for number, engine in cluster.engines.items()
    }


@pytest.mark.parametrize("db", [0, 4])
def test_due_keys_are_deleted_everywhere_and_others_stay(db):
    cluster = Cluster(shards=4)
    client = Client(cluster, 2)
    client.session.db = db
    for number in range(20):
        client.ask("SET", f"soon{number}", "v", "PX", "300")
        client.ask("SET", f"later{number}", "v", "PX", "60000")
        client.ask("SET", f"ever{number}", "v")
    cluster.pass_ms(200)
    assert client.ask("DBSIZE") == b":60\r\n"
    cluster.pass_ms(500)
    assert client.ask("DBSIZE") == b":40\r\n"
    assert held(cluster) == dict.fromkeys(ALL, 40)
    assert cluster.idle()


def test_many_due_keys_go_in_bounded_steps():
    cluster = Cluster(size=1)
    client = Client(cluster, 1)
    for number in range(1_200):
        client.send("SET", f"k{number}", "v", "PX", "100")
    cluster.run()
    cluster.pass_ms(90)
    sizes = []
    for _ in range(6):
        cluster.pass_ms(100)
        sizes.append(held(cluster)[1])
    assert sizes[0] >= 700, "one look takes at most 500"
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0
    assert cluster.nodes[1].expiry.waiting == 0


def test_a_follower_deletes_nothing_by_itself():
    cluster = Cluster()
    leader, cut_off = cluster.leader(), cluster.follower()
    client = Client(cluster, leader)
    client.ask("SET", "a", "1", "PX", "300")
    cluster.pass_ms(60)
    for other in ALL - {cut_off}:
        cluster.disconnect(cut_off, other)
    cluster.pass_ms(1_000)
    assert held(cluster) == {**dict.fromkeys(ALL, 0), cut_off: 1}
    for other in ALL - {cut_off}:
        cluster.connect(cut_off, other)
    cluster.pass_ms(500)
    assert held(cluster) == dict.fromkeys(ALL, 0)


def test_nothing_expires_while_the_leader_cannot_agree_with_anyone():
    cluster = Cluster()
    leader = cluster.leader()
    client = Client(cluster, leader)
    client.ask("SET", "a", "1", "PX", "100")
    cluster.held = set(ALL)
    cluster.pass_ms(400)
    read = client.send("GET", "a")
    cluster.run()
    assert read not in client.replies
    assert held(cluster) == dict.fromkeys(ALL, 1)
    cluster.held = set()
    cluster.run()
    assert client.replies[read] == NIL
    # Followers learn with the next heartbeat what is agreed on.
    cluster.pass_ms(70)
    assert held(cluster) == dict.fromkeys(ALL, 0)


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        (("PERSIST", "a"), True),
        (("SET", "a", "2"), True),
        (("PEXPIRE", "a", "60000"), True),
        (("PEXPIRE", "a", "400"), False),
        (("DEL", "a"), False),
        (("RENAME", "a", "b"), False),
    ],
)
def test_the_last_expiry_time_counts_and_old_index_entries_are_cleaned(change, stays):
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    client.ask("SET", "a", "1", "PX", "300")
    client.ask(*change)
    cluster.pass_ms(1_000)
    assert client.ask("DBSIZE") == (b":1\r\n" if stays else b":0\r\n")
    assert held(cluster) == dict.fromkeys(ALL, int(stays))
    expected = 1 if change[0] == "PEXPIRE" and stays else 0
    assert held(cluster, b"x") == dict.fromkeys(ALL, expected)


def test_a_new_leader_goes_on_expiring():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    client.ask("SET", "a", "1", "PX", "500")
    cluster.move_leader()
    cluster.pass_ms(800)
    assert held(cluster) == dict.fromkeys(ALL, 0)
    assert cluster.idle()


def test_a_restarted_cluster_goes_on_expiring():
    cluster = Cluster()
    Client(cluster, cluster.leader()).ask("SET", "a", "1", "PX", "60000")
    for number in ALL:
        cluster.power_off(number)
    for number in ALL:
        cluster.start(number)
    cluster.settle()
    assert Client(cluster, 1).ask("PTTL", "a")[:1] == b":"
    cluster.pass_ms(70)
    assert held(cluster) == dict.fromkeys(ALL, 1)
    cluster.clock.wall_shift_ms += 60_000
    cluster.pass_ms(500)
    assert held(cluster) == dict.fromkeys(ALL, 0)


def test_a_clock_that_jumps_back_brings_nothing_back():
    cluster = Cluster()
    client = Client(cluster, cluster.leader())
    client.ask("SET", "a", "1", "PX", "100")
    client.ask("SET", "b", "1", "PX", "1000")
    cluster.pass_ms(200)
    assert client.ask("GET", "a") == NIL
    cluster.clock.wall_shift_ms = -3_600_000
    cluster.pass_ms(50)
    assert client.ask("GET", "a") == NIL
    assert client.ask("GET", "b") == b"$1\r\n1\r\n"
    assert client.ask("SET", "c", "1", "PX", "50") == OK
    assert client.ask("GET", "c") == b"$1\r\n1\r\n"
