"""Members come and go while clients write: operations, the beginning and the end of replicas."""

import pytest

from quoit.base.errors import BadRequest, NotLeader
from quoit.node.membership import Request
from quoit.node.messages import Leading
from quoit.node.state import decode_state, state_key
from quoit.quorum.members import Members
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"


@pytest.fixture
def cluster():
    """Nodes 1 to 3 keep the shard; 4 and 5 hold nothing."""
    return Cluster(5, founders=(1, 2, 3))


def begin(cluster, kind, node, source=0, shard=0):
    request = Request(kind=kind, shard=shard, node=node, source=source)
    return cluster.nodes[cluster.leader(shard)].membership.begin(request)


def finish(cluster, operation, state="done"):
    for _ in range(300):
        if operation.state != "running":
            break
        cluster.pass_ms(10)
    assert (operation.state, operation.reason if state == "done" else "") == (state, "")
    cluster.pass_ms(300)


def move(cluster, source, node, shard=0):
    """As the command line does: ask again where the leader is now."""
    operation = begin(cluster, "move", node, source, shard)
    for _ in range(3):
        for _ in range(300):
            if operation.state != "running":
                break
            cluster.pass_ms(10)
        if operation.state == "done":
            break
        assert operation.state == "handed-over"
        cluster.pass_ms(100)
        assert cluster.leader(shard) == operation.next
        operation = begin(cluster, "move", node, source, shard)
    assert operation.state == "done"
    cluster.pass_ms(300)


def voters(cluster, shard=0):
    return {number: node.members_of(shard).voters for number, node in cluster.nodes.items()}


def value(cluster, number, key):
    """What the replica on the node holds, or None."""
    client = Client(cluster, number)
    return client.ask("GET", key)


def test_nodes_that_are_no_founders_do_not_change_the_placement(cluster):
    assert cluster.nodes[4].replicas == {}
    assert (
        voters(cluster) == dict.fromkeys(range(1, 6), (1, 2, 3))
        or len({tuple(sorted(found)) for found in voters(cluster).values()}) == 1
    )
    assert Client(cluster, 5).ask("SET", "a", "1") == OK


def test_a_replica_is_added_and_gets_everything(cluster):
    client = Client(cluster, 1)
    for number in range(50):
        assert client.ask("SET", f"k{number}", str(number)) == OK
    operation = begin(cluster, "add-replica", 4)
    assert operation.steps == [("learn", 4), ("vote", 4)]
    finish(cluster, operation)
    replica = cluster.nodes[4].replicas[0]
    assert 4 in replica.core.members.voters
    leader = cluster.nodes[cluster.leader()].replicas[0]
    assert replica.state.applied_index == leader.state.applied_index
    assert replica.state.counts == leader.state.counts
    assert all(4 in found for found in voters(cluster).values())


def test_a_replica_is_added_from_a_snapshot(cluster):
    client = Client(cluster, 1)
    for number in range(50):
        client.ask("SET", f"k{number}", str(number))
    leader = cluster.nodes[cluster.leader()].replicas[0]
    leader.core.compact(leader.state.applied_index - 3)
    finish(cluster, begin(cluster, "add-replica", 4))
    replica = cluster.nodes[4].replicas[0]
    assert replica.state.counts == leader.state.counts
    assert replica.state.members == leader.state.members
    assert cluster.nodes[4].counters["snapshots_installed"] == 1


def test_a_follower_is_removed_and_its_data_go(cluster):
    client = Client(cluster, 1)
    client.ask("SET", "a", "1")
    gone = next(one for one in (1, 2, 3) if one != cluster.leader())
    finish(cluster, begin(cluster, "remove-replica", gone))
    node = cluster.nodes[gone]
    assert 0 not in node.replicas
    left = list(cluster.engines[gone].scan(b"", b"\xff" * 9))
    assert [key for key, _ in left] == [state_key(0)]
    assert decode_state(left[0][1]).removed
    # Commands go on, from there too.
    client = Client(cluster, gone)
    assert client.ask("GET", "a") == b"$1\r\n1\r\n"
    assert client.ask("SET", "b", "2") == OK
    assert cluster.idle()


def test_a_leader_that_is_removed_hands_over_first(cluster):
    client = Client(cluster, 5)
    assert client.ask("SET", "a", "1") == OK
    old = cluster.leader()
    operation = begin(cluster, "remove-replica", old)
    finish(cluster, operation, "handed-over")
    assert cluster.leader() == operation.next != old
    finish(cluster, begin(cluster, "remove-replica", old))
    assert 0 not in cluster.nodes[old].replicas
    assert client.ask("GET", "a") == b"$1\r\n1\r\n"


def test_the_whole_shard_moves_to_other_nodes():
    cluster = Cluster(6, founders=(1, 2, 3))
    client = Client(cluster, 6)
    for number in range(30):
        assert client.ask("SET", f"k{number}", str(number)) == OK
    for source, node in ((1, 4), (2, 5), (3, 6)):
        move(cluster, source, node)
        assert client.ask("SET", f"m{node}", "1") == OK
    assert set(cluster.nodes[4].members_of(0).voters) == {4, 5, 6}
    for old in (1, 2, 3):
        assert cluster.nodes[old].replicas == {}
        cluster.stop(old)
    cluster.settle()
    for number in range(30):
        assert client.ask("GET", f"k{number}") == b"$%d\r\n%d\r\n" % (len(str(number)), number)
    assert client.ask("DBSIZE") == b":33\r\n"


def test_writes_go_on_while_a_replica_moves(cluster):
    clients = [Client(cluster, number) for number in (1, 2, 3, 4, 5)]
    operation = begin(cluster, "move", 4, next(n for n in (1, 2, 3) if n != cluster.leader()))
    number = 0
    while operation.state == "running":
        for client in clients:
            client.send("INCR", "n")
            number += 1
        cluster.pass_ms(10)
        assert number < 5000
    cluster.pass_ms(500)
    assert operation.state == "done"
    assert clients[0].ask("GET", "n") == b"$%d\r\n%d\r\n" % (len(str(number)), number)
    assert cluster.idle()


def test_members_survive_a_restart_of_every_node(cluster):
    finish(cluster, begin(cluster, "add-replica", 4))
    gone = next(one for one in (1, 2, 3) if one != cluster.leader())
    finish(cluster, begin(cluster, "remove-replica", gone))
    before = cluster.nodes[4].members_of(0)
    assert Client(cluster, 4).ask("SET", "a", "1") == OK
    for number in list(cluster.nodes):
        cluster.power_off(number)
    for number in range(1, 6):
        cluster.start(number)
    cluster.settle()
    cluster.pass_ms(500)
    assert cluster.nodes[4].members_of(0) == before
    assert 0 not in cluster.nodes[gone].replicas
    assert Client(cluster, gone).ask("GET", "a") == b"$1\r\n1\r\n"


def test_an_invited_node_says_nothing_before_its_record_is_durable(cluster):
    Client(cluster, 1).ask("SET", "a", "1")
    cluster.still.add(4)
    operation = begin(cluster, "add-replica", 4)
    cluster.pass_ms(500)
    assert 0 in cluster.nodes[4].replicas
    assert operation.state == "running" and "catch up" in operation.waits_for
    assert 4 not in cluster.writes
    # It dies now: it knows nothing of the shard, and is invited again.
    cluster.still.clear()
    cluster.power_off(4)
    cluster.start(4)
    assert 0 not in cluster.nodes[4].replicas
    finish(cluster, operation)
    assert 4 in cluster.nodes[4].replicas[0].core.members.voters


def test_a_removed_replica_does_not_come_back_by_a_late_message(cluster):
    finish(cluster, begin(cluster, "add-replica", 4))
    replica = cluster.nodes[cluster.leader()].replicas[0]
    late = Leading(0, replica.core.term, replica.state.config_index, replica.state.members)
    finish(cluster, begin(cluster, "remove-replica", 4))
    node = cluster.nodes[4]
    assert 0 not in node.replicas
    node.announcements.known.clear()
    node.announcements.heard(cluster.leader(), late)
    assert 0 not in node.replicas
    # Nor after a restart, when only the engine remembers.
    cluster.pass_ms(200)
    cluster.nodes[4].compaction.want_flush()
    cluster.pass_ms(50)
    cluster.power_off(4)
    cluster.start(4)
    cluster.nodes[4].announcements.heard(cluster.leader(), late)
    assert 0 not in cluster.nodes[4].replicas


def test_a_removed_node_can_be_added_again(cluster):
    client = Client(cluster, 1)
    for turn in range(3):
        client.ask("SET", f"k{turn}", "1")
        finish(cluster, begin(cluster, "add-replica", 4))
        assert cluster.nodes[4].replicas[0].state.counts == {0: turn + 1}
        finish(cluster, begin(cluster, "remove-replica", 4))
        assert 0 not in cluster.nodes[4].replicas


def test_a_node_that_slept_through_its_removal_learns_of_it(cluster):
    gone = next(one for one in (1, 2, 3) if one != cluster.leader())
    cluster.stop(gone)
    finish(cluster, begin(cluster, "remove-replica", gone))
    Client(cluster, 4).ask("SET", "a", "1")
    cluster.start(gone)
    assert 0 in cluster.nodes[gone].replicas
    cluster.pass_ms(500)
    assert 0 not in cluster.nodes[gone].replicas
    assert Client(cluster, gone).ask("GET", "a") == b"$1\r\n1\r\n"


def test_an_old_leader_cannot_end_a_replica(cluster):
    """Its term is below what the replica has promised, and it names no later change."""
    follower = next(one for one in (1, 2, 3) if one != cluster.leader())
    replica = cluster.nodes[follower].replicas[0]
    stale = Leading(0, replica.core.term - 1, 1, Members((4, 5)))
    cluster.nodes[follower].lifecycle.follow(stale)
    assert cluster.nodes[follower].replicas[0] is replica


def test_a_later_change_ends_a_replica_whatever_it_has_promised(cluster):
    """A replica that missed its removal may have campaigned since."""
    follower = next(one for one in (1, 2, 3) if one != cluster.leader())
    replica = cluster.nodes[follower].replicas[0]
    later = Leading(0, replica.core.term - 1, 10_000, Members((4, 5)))
    cluster.nodes[follower].lifecycle.follow(later)
    assert 0 not in cluster.nodes[follower].replicas


@pytest.mark.parametrize(
    ("kind", "node", "source", "said"),
    [
        ("add-replica", 9, 0, "there is no node 9"),
        ("add-replica", 1, 0, "a member already"),
        ("remove-replica", 4, 0, "not a member"),
        ("leader", 4, 0, "does not vote"),
        ("move", 1, 4, "member already"),
        ("split", 1, 0, "no operation"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(cluster, kind, node, source, said):
    with pytest.raises(BadRequest, match=said):
        begin(cluster, kind, node, source)


def test_what_would_lose_the_quorum_is_refused(cluster):
    leader = cluster.leader()
    down, stays = (one for one in (1, 2, 3) if one != leader)
    cluster.stop(down)
    with pytest.raises(BadRequest, match="lose the quorum"):
        begin(cluster, "remove-replica", stays)
    # Adding one makes four, of which three are there; taking the dead one away is always good.
    finish(cluster, begin(cluster, "remove-replica", down))


def test_one_operation_at_a_time(cluster):
    cluster.still.add(4)
    begin(cluster, "add-replica", 4)
    with pytest.raises(BadRequest, match="under way"):
        begin(cluster, "add-replica", 5)


def test_only_the_leader_takes_operations(cluster):
    follower = next(one for one in (1, 2, 3) if one != cluster.leader())
    request = Request(kind="add-replica", shard=0, node=4)
    with pytest.raises(NotLeader) as caught:
        cluster.nodes[follower].membership.begin(request)
    assert caught.value.leader == cluster.leader()


def test_an_operation_ends_with_its_leadership_and_goes_on_when_asked_again(cluster):
    cluster.still.add(4)
    operation = begin(cluster, "add-replica", 4)
    cluster.pass_ms(200)
    assert operation.step == 1
    old = cluster.leader()
    cluster.move_leader()
    cluster.pass_ms(50)
    assert operation.state == "interrupted" and operation.next == cluster.leader() != old
    cluster.still.clear()
    again = begin(cluster, "add-replica", 4)
    assert again.steps == [("vote", 4)]
    finish(cluster, again)


def test_the_leader_is_chosen_by_hand(cluster):
    to = next(one for one in (1, 2, 3) if one != cluster.leader())
    operation = begin(cluster, "leader", to)
    finish(cluster, operation)
    assert cluster.leader() == to


def test_a_replica_that_ends_takes_back_what_it_was_about_to_say(cluster):
    """An acknowledgement that waits for the log would count for the empty replica that may come next."""
    finish(cluster, begin(cluster, "add-replica", 4))
    cluster.held.add(4)
    client = Client(cluster, 1)
    for number in range(3):
        client.ask("SET", f"k{number}", "1")
    persistence = cluster.nodes[4].persistence
    waiting = persistence.after + persistence.write_after
    assert any(shard == 0 for shard, _, _ in waiting)
    finish(cluster, begin(cluster, "remove-replica", 4))
    assert 0 not in cluster.nodes[4].replicas
    waiting = persistence.after + persistence.write_after
    assert not any(shard == 0 for shard, _, _ in waiting)
    assert all(mark[0].id != 0 for mark in persistence.marks + persistence.write_marks)


def test_a_node_is_not_added_before_it_has_given_up_its_earlier_replica(cluster):
    finish(cluster, begin(cluster, "add-replica", 4))

    def deaf(source, target, frame):
        if target == 4:
            frame.leading = []
        return frame

    cluster.edit = deaf
    finish(cluster, begin(cluster, "remove-replica", 4))
    assert 0 in cluster.nodes[4].replicas
    operation = begin(cluster, "add-replica", 4)
    cluster.pass_ms(500)
    assert (operation.state, operation.step) == ("running", 0)
    assert "give up an earlier replica" in operation.waits_for
    cluster.edit = None
    finish(cluster, operation)
    assert 4 in cluster.nodes[4].replicas[0].core.members.voters


def test_what_a_replica_promised_outlives_its_data(cluster):
    finish(cluster, begin(cluster, "add-replica", 4))
    cluster.pass_ms(100)
    node = cluster.nodes[4]
    promised = node.replicas[0].core.term
    assert promised > 0
    finish(cluster, begin(cluster, "remove-replica", 4))
    for _ in range(2):
        index = node.lifecycle.removed[0] + 1
        again = Leading(0, promised, index, Members((1, 2, 3), (4,)))
        node.announcements.known.clear()
        node.announcements.heard(1, again)
        assert node.replicas[0].core.term == promised
        assert node.replicas[0].state.applied_index == 0
        # The same after its removal and a restart.
        node.announcements.known.clear()
        node.announcements.heard(1, Leading(0, promised, index + 1, Members((1, 2, 3))))
        assert 0 not in node.replicas
        cluster.pass_ms(100)
        cluster.power_off(4)
        cluster.start(4)
        node = cluster.nodes[4]
        assert node.lifecycle.removed == {0: index + 1}


def test_what_an_earlier_replica_had_flushed_does_not_cut_the_log_of_the_next(cluster):
    finish(cluster, begin(cluster, "add-replica", 4))
    for number in range(20):
        Client(cluster, 1).ask("SET", f"k{number}", "1")
    node = cluster.nodes[4]
    node.compaction.want_flush()
    cluster.pass_ms(100)
    assert node.compaction.durable[0] > 20
    # No further flush comes to correct it.
    cluster.still.add(4)
    finish(cluster, begin(cluster, "remove-replica", 4))
    assert 0 not in node.compaction.durable
