"""The failure detector inside a node: what it is fed, what it sends and how, and what the node tells."""

import pytest

from quoit.base import limits
from quoit.detector.messages import Ping, PingAck, PingRequest
from quoit.detector.peer import EventKind, PeerState
from quoit.node.config import PeerInfo
from quoit.node.messages import decode_frame
from quoit.node.outbox import Outbox
from quoit.quorum.agreement import Entry
from quoit.raft.messages import AppendEntries
from tests.unit.node.harness import Client, Cluster

WORDS = (Ping, PingRequest, PingAck)
DEAD_AFTER_US = 2_000_000


@pytest.fixture
def cluster():
    return Cluster(dead_after_us=DEAD_AFTER_US)


def listen(cluster, number):
    """What the node traces from now on."""
    told = []
    cluster.nodes[number].liveness.trace = lambda event, /, **facts: told.append(
        (event, facts["peer"])
    )
    return told


def overhear(cluster):
    """(from, to, message) of the detectors, as they are delivered."""
    found = []

    def edit(source, target, frame):
        found.extend((source, target, one) for one in frame.other if isinstance(one, WORDS))
        return frame

    cluster.edit = edit
    return found


def kill(cluster):
    """A follower dies, and is dead for the others."""
    victim = cluster.follower()
    cluster.stop(victim)
    cluster.pass_ms(8_000)
    return victim, cluster.leader()


def test_a_link_with_traffic_carries_no_pings(cluster):
    cluster.pass_ms(1_000)
    found = overhear(cluster)
    cluster.pass_ms(3_000)
    leader = cluster.leader()
    assert [one for one in found if leader in one[:2]] == []
    # The followers say nothing else to one another: a ping after 200 ms of silence, and its answer, both
    # ways, because here they do so at the same moment.
    assert 50 <= len(found) <= 60
    assert {type(one[2]) for one in found} == {Ping, PingAck}


def test_messages_of_the_detector_overtake_what_is_bulky(monkeypatch):
    monkeypatch.setattr(limits, "FRAME_BYTES_SOFT", 1_000)
    outbox = Outbox()
    bulk = AppendEntries(1, 0, 1, 0, 1, [Entry(1, 1, 0, b"e" * 5_000)])
    outbox.outgoing(2).core.append((0, bulk))
    outbox.overtake(2, Ping(7, 1, 0))
    outbox.overtake(3, Ping(8, 1, 0))
    outbox.overtake(4, Ping(9, 1, 0))
    outbox.drop(4)
    ordinary, urgent = outbox.drain({2: 0, 3: 0, 4: 0})
    assert [(peer, decode_frame(payload).other) for peer, payload in urgent] == [
        (2, [Ping(7, 1, 0)]),
        (3, [Ping(8, 1, 0)]),
    ]
    assert all(not decode_frame(payload).other for _, payload in ordinary)
    assert outbox.drain({2: 0, 3: 0, 4: 0}) == ([], [])


def test_a_node_that_dies_is_suspect_unreachable_and_dead(cluster):
    victim = cluster.follower()
    leader = cluster.leader()
    told = listen(cluster, leader)
    liveness = cluster.nodes[leader].liveness
    cluster.stop(victim)
    assert liveness.state_of(victim) is PeerState.SUSPECT, "the connection tells at once"
    cluster.pass_ms(4_500)
    assert liveness.state_of(victim) is PeerState.UNREACHABLE
    cluster.pass_ms(3_000)
    assert liveness.state_of(victim) is PeerState.DEAD
    assert liveness.dead() == [victim]
    assert liveness.returned() == []
    names = ["peer_suspect", "peer_unreachable", "peer_dead"]
    assert told == [(name, victim) for name in names]
    assert [event.kind.value for event in liveness.recent if event.peer == victim][-3:] == [
        name.removeprefix("peer_") for name in names
    ]


def test_the_dead_stay_dead_until_readmitted(cluster):
    victim, leader = kill(cluster)
    told = listen(cluster, leader)
    cluster.start(victim)
    cluster.pass_ms(1_000)
    liveness = cluster.nodes[leader].liveness
    assert liveness.dead() == liveness.returned() == [victim]
    peers = {peer.id: peer for peer in cluster.nodes[leader].status().peers}
    assert (peers[victim].state, peers[victim].returned, peers[victim].connected) == (
        "dead",
        True,
        True,
    )
    assert ("peer_returned", victim) in told
    liveness.readmit(victim)
    assert (liveness.dead(), liveness.returned()) == ([], [])
    assert told[-1] == ("peer_live_again", victim)
    cluster.pass_ms(1_000)
    assert liveness.state_of(victim) is PeerState.LIVE
    assert Client(cluster, victim).ask("SET", "k", "v") == b"+OK\r\n"


def test_what_the_cluster_holds_for_dead_is_dead_here_even_if_unknown(cluster):
    node = cluster.nodes[1]
    told = listen(cluster, 1)
    node.liveness.mark_dead(2)
    node.liveness.mark_dead(2)
    node.liveness.mark_dead(9)
    node.liveness.mark_dead(1)
    assert node.liveness.dead() == [2, 9]
    assert told == [("peer_marked_dead", 2), ("peer_marked_dead", 9)]
    cluster.pass_ms(500)
    assert node.liveness.returned() == [2], "it is alive and well, and still dead"
    node.add_node(PeerInfo(9, "n9"))
    assert node.liveness.dead() == [2, 9]
    node.liveness.remove_peer(9)
    assert node.liveness.dead() == [2]


def test_a_node_that_becomes_known_is_watched(cluster):
    node = cluster.nodes[1]
    node.add_node(PeerInfo(4, "n4"))
    cluster.pass_ms(4_800)
    assert node.liveness.state_of(4) is PeerState.UNREACHABLE
    assert node.liveness.phi_of(4) > 8
    assert node.status().peers[3].state == "unreachable"


def test_a_slow_disk_counts_while_it_writes_and_when_it_is_done(cluster):
    leader = cluster.leader()
    liveness = cluster.nodes[leader].liveness
    cluster.held = {leader}
    Client(cluster, leader).send("SET", "k", "v")
    cluster.pass_ms(800)
    assert liveness.health == 1
    cluster.clock.us += 60_000
    cluster.held = set()
    cluster.run()
    assert liveness.detector.health.sync_us == 850_000, "60 ms after the tick at 790"
    cluster.pass_ms(10_000)
    assert liveness.health == 0


def test_lag_is_the_latest_tick_and_forgotten_after_a_while(cluster):
    node = cluster.nodes[1]
    assert node.status().event_loop_lag_us == 0
    cluster.clock.us += 70_000
    cluster.pass_ms(10)
    assert node.status().event_loop_lag_us == 70_000
    assert node.status().local_health == 1
    cluster.pass_ms(9_000)
    assert node.status().event_loop_lag_us == 70_000
    cluster.pass_ms(12_000)
    assert (node.status().event_loop_lag_us, node.status().local_health) == (0, 0)


def test_a_node_alone_says_so_and_declares_nobody_dead(cluster):
    for other in (2, 3):
        cluster.disconnect(1, other)
    cluster.pass_ms(20_000)
    status = cluster.nodes[1].status()
    assert [peer.state for peer in status.peers] == ["live", "unreachable", "unreachable"]
    assert status.isolated
    assert cluster.nodes[2].liveness.dead() == [1]
    kinds = [event.kind for event in cluster.nodes[1].liveness.recent]
    assert EventKind.DEAD not in kinds
