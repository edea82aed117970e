"""Commands that another node's leader runs: sent once, answered in order, or their outcome is unknown."""

import pytest

from quoit.base.errors import PeerFault
from quoit.node.messages import (
    TRANSACTION,
    Frame,
    Leading,
    TransactionForward,
    decode_frame,
    encode_frame,
    encode_transaction,
)
from quoit.quorum.members import Members
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
NIL = b"$-1\r\n"
ONE = b"$1\r\n1\r\n"


@pytest.fixture
def cluster():
    return Cluster()


def only(cluster, field, keep=lambda one: False):
    """Lose parts of all frames: those of list `field` that are not kept."""

    def edit(source, target, frame):
        setattr(frame, field, [one for one in getattr(frame, field) if keep(one)])
        return frame

    cluster.edit = edit


def counts(cluster, name):
    return sum(node.counters[name] for node in cluster.nodes.values())


# What arrives


@pytest.mark.parametrize("proto", [2, 3])
@pytest.mark.parametrize("db", [0, 7])
def test_database_and_protocol_travel_with_a_command(cluster, proto, db):
    client = Client(cluster, cluster.follower())
    client.session.db, client.session.proto = db, proto
    assert client.ask("GET", "a") == (b"_\r\n" if proto == 3 else NIL)
    assert client.ask("SET", "a", "1") == OK
    assert client.transact("GET none") == b"*1\r\n" + (b"_\r\n" if proto == 3 else NIL)
    other = Client(cluster, cluster.leader())
    assert other.ask("EXISTS", "a") == (b":0\r\n" if db else b":1\r\n")
    assert cluster.idle()


def test_all_commands_of_a_turn_go_in_one_frame_and_come_back_in_one(cluster):
    entry, leader = cluster.follower(), cluster.leader()
    client = Client(cluster, entry)
    tickets = [client.send("INCR", "n") for _ in range(100)]
    frames = cluster.nodes[entry].end_turn().frames
    assert [peer for peer, _ in frames] == [leader]
    assert len(decode_frame(frames[0][1]).forwards) == 100
    cluster.frames += [(entry, peer, payload) for peer, payload in frames]
    cluster.run()
    assert [client.replies[ticket] for ticket in tickets] == [b":%d\r\n" % n for n in range(1, 101)]
    assert counts(cluster, "forwards") == counts(cluster, "forwards_received") == 100


def test_two_entry_nodes_do_not_mix_up_their_requests(cluster):
    clients = [Client(cluster, number) for number in cluster.followers()]
    for client in clients:
        client.ask("SET", f"k{client.number}", f"v{client.number}")
    tickets = [(client, client.send("GET", f"k{client.number}")) for client in clients]
    cluster.run()
    assert [client.replies[ticket] for client, ticket in tickets] == [
        b"$2\r\nv%d\r\n" % client.number for client in clients
    ]


def test_a_forwarded_read_is_answered_from_the_lease_without_a_batch(cluster):
    client = Client(cluster, cluster.follower())
    client.ask("SET", "a", "1")
    before = counts(cluster, "batches")
    assert client.ask("GET", "a") == ONE
    assert counts(cluster, "batches") == before
    assert counts(cluster, "reads_local") == 1


# What is lost


def test_a_write_whose_reply_is_lost_is_unknown_after_a_while_and_was_applied_once(cluster):
    entry = cluster.follower()
    client = Client(cluster, entry)
    only(cluster, "replies")
    ticket = client.send("INCR", "n")
    cluster.pass_ms(3_900)
    assert ticket not in client.replies
    cluster.pass_ms(200)
    assert client.replies[ticket].startswith(b"-UNKNOWN maybe applied")
    cluster.edit = None
    assert client.ask("GET", "n") == ONE
    assert cluster.nodes[entry].counters["unknown_outcomes"] == 1
    assert cluster.idle()


def test_a_read_whose_reply_is_lost_is_asked_again(cluster):
    client = Client(cluster, cluster.follower())
    client.ask("SET", "a", "1")
    only(cluster, "replies")
    ticket = client.send("GET", "a")
    cluster.pass_ms(3_900)
    cluster.edit = None
    assert ticket not in client.replies
    cluster.pass_ms(200)
    assert client.replies[ticket] == ONE
    assert cluster.idle()


@pytest.mark.parametrize("left", [False, True])
def test_a_read_is_not_asked_again_for_ever(cluster, left):
    """Not even if its reply is what breaks the connection; least of all for a client that left."""
    client = Client(cluster, cluster.follower())
    only(cluster, "replies")
    ticket = client.send("GET", "a")
    if left:
        client.node.close_session(client.session)
    cluster.pass_ms(10_000)
    assert cluster.idle()
    assert client.replies.get(ticket, b"") == (
        b""
        if left
        else b"-CLUSTERDOWN shard 0 did not answer in time; nothing was changed, try again\r\n"
    )


def test_a_command_that_is_refused_again_and_again_is_not_sent_for_ever(cluster):
    """Nodes that never agree on who leads, as this one hears them."""
    entry, leader = cluster.follower(), cluster.leader()
    client = Client(cluster, entry)

    def refuse(source, target, frame):
        if (source, target) == (entry, leader):
            cluster.nodes[leader].outgoing(entry).refused += [(one[0], 0) for one in frame.forwards]
            frame.forwards = []
        return frame

    cluster.edit = refuse
    tickets = [client.send("SET", "a", "1"), client.send("GET", "a")]
    cluster.pass_ms(4_900)
    assert not client.replies
    cluster.pass_ms(200)
    assert all(client.replies[one].startswith(b"-CLUSTERDOWN shard 0 ") for one in tickets)
    cluster.edit = None
    assert client.ask("GET", "a") == NIL
    assert cluster.idle()


def test_a_reply_that_comes_too_late_is_ignored(cluster):
    entry, leader = cluster.follower(), cluster.leader()
    client = Client(cluster, entry)
    late = []

    def keep(source, target, frame):
        late.extend(frame.replies)
        frame.replies = []
        return frame

    cluster.edit = keep
    ticket = client.send("INCR", "n")
    cluster.pass_ms(4_100)
    cluster.edit = None
    before = dict(client.replies)
    assert before[ticket].startswith(b"-UNKNOWN")
    cluster.nodes[entry].on_frame(leader, encode_frame(Frame([], [], late, [], [], [])))
    cluster.run()
    assert (len(late), client.replies) == (1, before)
    assert cluster.idle()


def test_parts_and_transactions_share_the_fate_of_plain_writes(cluster):
    entry, leader = cluster.follower(), cluster.leader()
    client = Client(cluster, entry)
    tickets = [client.send_exec("SET a 1"), client.send("FLUSHALL"), client.send("DEL", "a", "b")]
    reads = [client.send("DBSIZE"), client.send("MGET", "a", "b")]
    cluster.turn(entry)
    cluster.disconnect(entry, leader)
    cluster.run()
    assert all(client.replies[one].startswith(b"-UNKNOWN") for one in tickets)
    assert not any(one in client.replies for one in reads)
    cluster.connect(entry, leader)
    cluster.pass_ms(200)
    assert [client.replies[one] for one in reads] == [b":0\r\n", b"*2\r\n" + NIL + NIL]
    assert cluster.idle()


def test_what_was_sent_before_a_restart_of_the_leader_is_not_answered_by_its_next_life(cluster):
    entry, leader = cluster.follower(), cluster.leader()
    client = Client(cluster, entry)
    ticket = client.send("INCR", "n")
    cluster.turn(entry)
    cluster.stop(leader)
    cluster.start(leader)
    cluster.settle()
    cluster.pass_ms(200)
    assert client.replies[ticket].startswith(b"-UNKNOWN")
    assert client.ask("GET", "n") == NIL


# What is refused


def stepped_down(cluster, entry):
    """The leader hands over; what `entry` sent before reaches it afterwards."""
    old = cluster.leader()
    cluster.slow = {(entry, old)}
    cluster.run()
    cluster.nodes[old].begin_stop()
    cluster.run()
    assert cluster.leader() != old
    cluster.release()
    return old


@pytest.mark.parametrize("entry_leads", [False, True])
def test_what_a_former_leader_refuses_hops_to_the_new_one(cluster, entry_leads):
    # The lower of two equal followers is chosen as the new leader.
    entry = cluster.followers()[0 if entry_leads else 1]
    client = Client(cluster, entry)
    Client(cluster, cluster.leader()).ask("SET", "a", "1")
    tickets = [
        client.send("INCR", "n"),
        client.send("GET", "a"),
        client.send("MGET", "a", "n"),
        client.send_exec("INCR m"),
    ]
    stepped_down(cluster, entry)
    assert (cluster.leader() == entry) is entry_leads
    cluster.pass_ms(100)
    answers = [client.replies[ticket] for ticket in tickets]
    assert answers[:2] == [b":1\r\n", ONE]
    assert answers[2].startswith(b"*2\r\n" + ONE)
    assert answers[3] == b"*1\r\n:1\r\n"
    assert counts(cluster, "unknown_outcomes") == 0
    assert client.ask("GET", "n") == ONE
    assert cluster.idle()


def test_nodes_of_different_opinions_do_not_bounce_a_command_between_them(cluster):
    """The entry node believes in a leader that refuses: it asks again after two ticks, not at once."""
    entry, old = cluster.followers()[1], cluster.leader()
    cluster.slow = {(other, entry) for other in cluster.nodes if other not in (entry, old)}
    cluster.nodes[old].begin_stop()
    cluster.run()
    new = cluster.leader()
    cluster.slow.add((new, entry))
    assert cluster.nodes[entry].leader_of(0) == old
    client = Client(cluster, entry)
    ticket = client.send("INCR", "n")
    cluster.run()
    before = counts(cluster, "forwards")
    cluster.pass_ms(100)
    assert counts(cluster, "forwards") - before <= 5
    assert ticket not in client.replies
    cluster.release()
    cluster.pass_ms(50)
    assert client.replies[ticket] == b":1\r\n"


def test_a_read_that_the_old_leader_has_not_answered_is_asked_of_the_new_one(cluster):
    entry, old = cluster.followers()[1], cluster.leader()
    Client(cluster, old).ask("SET", "a", "1")
    client = Client(cluster, entry)
    cluster.slow = {(old, entry)}
    read, write = client.send("GET", "a"), client.send("INCR", "n")
    cluster.run()
    cluster.nodes[old].begin_stop()
    cluster.run()
    cluster.pass_ms(50)
    # It waits: the write may have to be run again, and what comes after it must not overtake it.
    assert not client.replies
    cluster.release()
    cluster.pass_ms(50)
    # The write was not sent again; its reply was on its way.
    assert client.replies[read] == ONE
    assert client.replies[write] == b":1\r\n"
    assert client.ask("GET", "n") == ONE


def test_a_leader_that_loses_office_sends_back_what_it_had_not_proposed(cluster):
    entry, old = cluster.followers()[1], cluster.leader()
    client = Client(cluster, entry)
    cluster.slow = {(old, cluster.followers()[0])}
    cluster.nodes[old].begin_stop()
    # The transfer is under way, so the leader takes the command but proposes nothing.
    ticket = client.send("INCR", "n")
    cluster.run()
    assert cluster.nodes[old].pending == 1
    cluster.release()
    cluster.run()
    assert cluster.leader() != old
    assert cluster.nodes[old].pending == 0
    cluster.pass_ms(50)
    assert client.replies[ticket] == b":1\r\n"
    assert cluster.idle()


# Nodes without a replica


@pytest.fixture
def partial():
    """Four nodes, one shard on three of them: (cluster, the node without a replica)."""
    cluster = Cluster(size=4)
    outsider = next(number for number, node in cluster.nodes.items() if not node.replicas)
    cluster.pass_ms(50)
    return cluster, outsider


def test_a_node_without_a_replica_learns_who_leads(partial):
    cluster, outsider = partial
    assert cluster.nodes[outsider].leader_of(0) == cluster.leader()
    client = Client(cluster, outsider)
    assert client.ask("SET", "a", "1") == OK
    assert client.ask("GET", "a") == ONE
    assert client.transact("INCR a") == b"*1\r\n:2\r\n"
    assert cluster.idle()


def test_a_node_without_a_replica_follows_a_refusals_hint(partial):
    cluster, outsider = partial
    client = Client(cluster, outsider)
    old = cluster.leader()
    cluster.nodes[old].begin_stop()
    only(cluster, "leading")
    cluster.run()
    assert cluster.nodes[outsider].leader_of(0) == old
    ticket = client.send("SET", "a", "1")
    cluster.pass_ms(100)
    assert client.replies[ticket] == OK
    assert cluster.nodes[outsider].leader_of(0) == cluster.leader() != old


def test_a_node_without_a_replica_survives_the_death_of_the_leader(partial):
    cluster, outsider = partial
    client = Client(cluster, outsider)
    cluster.stop(cluster.leader())
    ticket = client.send("SET", "a", "1")
    cluster.pass_ms(1_500)
    assert client.replies[ticket] == OK
    assert cluster.idle()


def test_a_node_without_a_replica_asks_the_new_leader_when_the_old_one_vanished(partial):
    """Its connection is up, and nothing comes."""
    cluster, outsider = partial
    old = cluster.leader()
    client, other = Client(cluster, outsider), Client(cluster, outsider)
    cluster.edit = lambda source, target, frame: None if old in (source, target) else frame
    read, write = client.send("GET", "a"), other.send("SET", "b", "1")
    while cluster.nodes[outsider].leader_of(0) == old:
        cluster.pass_ms(10)
    cluster.pass_ms(50)
    assert client.replies[read] == NIL
    assert write not in other.replies
    cluster.pass_ms(600)
    assert other.replies[write].startswith(b"-UNKNOWN")
    assert cluster.nodes[outsider].pending == 0


# Peers that say strange things


def inject(cluster, target, **parts):
    """A frame from the leader's point of view: node `target` gets it from another node."""
    fields = {name: [] for name in ("core", "forwards", "replies", "refused", "leading", "other")}
    source = next(number for number in cluster.nodes if number != target)
    said = []

    def listen(_, to, frame):
        if to == source:
            said.extend(frame.replies)
        return frame

    cluster.edit = listen
    cluster.nodes[target].on_frame(source, encode_frame(Frame(**{**fields, **parts})))
    cluster.run()
    return said


@pytest.mark.parametrize(
    "forward",
    [
        (1, 0, 0, 0, []),
        (1, 0, 0, 0, [b"NOSUCH"]),
        (1, 0, 0, 0, [b"PING"]),
        (1, 0, 0, 16, [b"GET", b"a"]),
        (1, 0, 0, -1, [b"GET", b"a"]),
    ],
)
def test_a_forward_that_makes_no_sense_is_answered_with_an_error(cluster, forward):
    said = inject(cluster, cluster.leader(), forwards=[forward])
    assert [(number, reply[:4]) for number, reply in said] == [(1, b"-ERR")]
    assert cluster.idle()


@pytest.mark.parametrize("args", [[b"GET"], [b"SET", b"a"], [b"SET", b"a", b"1", b"FOO"]])
def test_a_forward_with_wrong_arguments_is_answered_with_an_error(cluster, args):
    said = inject(cluster, cluster.leader(), forwards=[(1, 0, 0, 0, args)])
    assert [(number, reply[:4]) for number, reply in said] == [(1, b"-ERR")]
    assert cluster.idle()


def test_a_transaction_with_an_unknown_command_is_not_run_in_part(cluster):
    commands = [(0, [b"SET", b"a", b"1"]), (0, [b"NOSUCH"])]
    message = encode_transaction(TransactionForward(1, 0, 2, [], commands))
    said = inject(cluster, cluster.leader(), forwards=[(1, 0, TRANSACTION, 0, [message])])
    assert said[0][1].startswith(b"-EXECABORT")
    assert Client(cluster, cluster.leader()).ask("GET", "a") == NIL


def test_a_transaction_for_a_database_that_does_not_exist_does_not_stop_the_node(cluster):
    message = TransactionForward(1, 0, 2, [(16, b"a", 1)], [(16, [b"SET", b"a", b"1"])])
    forward = (1, 0, TRANSACTION, 0, [encode_transaction(message)])
    said = inject(cluster, cluster.leader(), forwards=[forward])
    assert said[0][1].startswith(b"-")


def test_answers_to_unknown_requests_and_unknown_shards_are_ignored(cluster):
    client = Client(cluster, cluster.follower())
    leading = [Leading(77, 5, 0, Members((1, 2)))]
    inject(cluster, cluster.follower(), replies=[(99, OK)], refused=[(98, 2)], leading=leading)
    inject(cluster, cluster.leader(), forwards=[(1, 5, 0, 0, [b"GET", b"a"])])
    assert client.ask("SET", "a", "1") == OK
    assert cluster.idle()


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"junk", encode_frame(Frame(*[[]] * 6))[:-1]])
def test_a_frame_that_cannot_be_read_is_the_peers_fault(cluster, payload):
    with pytest.raises(PeerFault, match="cannot be read"):
        cluster.nodes[1].on_frame(2, payload)


def test_a_leader_refuses_forwarded_commands_beyond_twice_its_own_bound():
    cluster = Cluster(pending_commands_max=5)
    cluster.held = {1, 2, 3}
    clients = [Client(cluster, number) for number in cluster.nodes]
    for client in clients:
        for _ in range(5):
            client.send("INCR", "n")
    cluster.run()
    waiting = 15 - sum(len(client.replies) for client in clients)
    assert waiting == 10
    assert all(
        reply.startswith(b"-BUSY") for client in clients for reply in client.replies.values()
    )
    cluster.held = set()
    cluster.run()
    assert clients[0].ask("GET", "n") == b"$2\r\n10\r\n"
    assert cluster.idle()
