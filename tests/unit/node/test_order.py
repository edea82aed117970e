"""A session's commands take effect in the order in which it sent them, whatever becomes of leaders."""

import pytest

from quoit.base.slots import slot_of
from quoit.node.messages import decode_frame
from tests.unit.node.harness import Client, Cluster

OK = b"+OK\r\n"
NIL = b"$-1\r\n"


def bulk(text):
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def keys_of_two_shards(cluster):
    """One key of each of two shards."""
    node = next(iter(cluster.nodes.values()))
    found = {}
    for number in range(100):
        found.setdefault(node.slot_to_shard[slot_of(b"k%d" % number)], f"k{number}")
    return [found[shard] for shard in sorted(found)][:2]


@pytest.fixture
def parked():
    """A cluster without a leader: its log writes are held from the start."""
    cluster = Cluster(size=1, shards=2)
    cluster.stop(1)
    cluster.held = {1}
    cluster.start(1)
    cluster.pass_ms(1_000)
    assert not cluster.nodes[1].serving
    return cluster


def test_what_waited_for_a_leader_runs_in_order(parked):
    client = Client(parked, 1)
    words = [("GET", "a"), ("SET", "a", "1"), ("GET", "a"), ("SET", "a", "2"), ("GET", "a")]
    tickets = [client.send(*one) for one in words]
    parked.held = set()
    parked.pass_ms(50)
    # The first read follows no write, yet it joins the batch: it was sent before the first write.
    assert [client.replies[one] for one in tickets] == [NIL, OK, bulk("1"), OK, bulk("2")]
    assert parked.idle()


@pytest.mark.parametrize(
    ("command", "expected"),
    [("MGET", b"*2\r\n$1\r\n1\r\n$-1\r\n"), ("EXISTS", b":1\r\n"), ("DBSIZE", b":1\r\n")],
)
def test_a_fan_out_that_waited_for_leaders_sees_the_writes_before_it(parked, command, expected):
    client = Client(parked, 1)
    keys = keys_of_two_shards(parked)
    client.send("SET", keys[0], "1")
    ticket = client.send(command, *(keys if command != "DBSIZE" else []))
    parked.held = set()
    parked.pass_ms(50)
    assert client.replies[ticket] == expected


def test_a_watch_that_waited_for_a_leader_sees_the_writes_before_it(parked):
    client = Client(parked, 1)
    client.send("SET", "a", "1")
    watch = client.send_watch("a")
    done = client.send_exec("GET a")
    parked.held = set()
    parked.pass_ms(50)
    assert client.replies[watch] == OK
    assert client.replies[done] == b"*1\r\n$1\r\n1\r\n"


def test_a_read_is_not_overtaken_by_a_later_write_of_its_session():
    cluster = Cluster(lease_enabled=False)
    leader = cluster.leader()
    client = Client(cluster, leader)
    links = [(other, leader) for other in cluster.followers()]
    cluster.slow = set(links)
    read = client.send("GET", "a")
    client.send("SET", "a", "1")
    cluster.run()
    assert not client.replies
    # The proof of the read and the acknowledgement of the write arrive together.
    cluster.release()
    cluster.run()
    assert client.replies[read] == NIL


@pytest.mark.parametrize("survives", [True, False])
def test_a_read_without_a_proof_shares_the_fate_of_the_write_behind_it(survives):
    cluster = Cluster(lease_enabled=False)
    old = cluster.leader()
    client = Client(cluster, old)
    cluster.slow = {(other, old) for other in cluster.followers()}
    if not survives:
        cluster.edit = lambda source, target, frame: _without_entries(frame, source == old)
    words = [("GET", "a"), ("SET", "a", "1"), ("GET", "a"), ("SET", "a", "2")]
    tickets = [client.send(*one) for one in words]
    cluster.run()
    assert not client.replies
    for other in cluster.followers():
        cluster.disconnect(old, other)
    cluster.edit = None
    cluster.pass_ms(2_000)
    assert cluster.leader() != old
    cluster.slow = set()
    for other in cluster.nodes:
        if other != old:
            cluster.connect(old, other)
    cluster.pass_ms(500)
    assert cluster.leader() != old or not survives
    assert [client.replies[one] for one in tickets] == [NIL, OK, bulk("1"), OK]
    assert client.ask("GET", "a") == bulk("2")
    assert cluster.idle()


def test_a_read_sees_the_write_before_it_that_changed_nothing_at_first():
    """Without a lease a batch that changes nothing waits for a proof."""
    cluster = Cluster(lease_enabled=False)
    leader = cluster.leader()
    client, other = Client(cluster, leader), Client(cluster, leader)
    other.ask("SET", "a", "old")
    cluster.slow = {(one, leader) for one in cluster.followers()}
    write, read = client.send("SETNX", "a", "new"), client.send("GET", "a")
    cluster.turn(leader)
    other.send("DEL", "a")
    cluster.run()
    assert not client.replies
    cluster.release()
    cluster.run()
    seen = (client.replies[write], client.replies[read])
    assert seen in [(b":0\r\n", bulk("old")), (b":1\r\n", bulk("new"))]


@pytest.fixture
def moved():
    """(cluster, entry, old leader, new leader): the entry node has sent the old leader a command that
    arrives after it stepped down, and knows of the new one before it hears of the refusal."""
    cluster = Cluster()
    old = cluster.leader()
    new, entry = cluster.followers()
    return cluster, entry, old, new


def hand_over(cluster, entry, old, new):
    """`new` leads and `entry` knows; what `entry` sent to `old` and what `old` says to it wait."""
    cluster.slow |= {(entry, old), (old, entry)}
    cluster.run()
    cluster.nodes[old].begin_stop()
    cluster.run()
    assert cluster.leader() == new
    assert cluster.nodes[entry].leader_of(0) == new


def test_forwarded_writes_keep_their_order_when_the_leader_changes(moved):
    cluster, entry, old, new = moved
    client = Client(cluster, entry)
    first = client.send("SET", "a", "1")
    hand_over(cluster, entry, old, new)
    second = client.send("SET", "a", "2")
    cluster.run()
    cluster.release()
    cluster.pass_ms(100)
    assert (client.replies[first], client.replies[second]) == (OK, OK)
    assert client.ask("GET", "a") == bulk("2")


def test_a_forwarded_read_sees_the_write_before_it_when_the_leader_changes(moved):
    cluster, entry, old, new = moved
    client = Client(cluster, entry)
    write = client.send("SET", "a", "1")
    hand_over(cluster, entry, old, new)
    read = client.send("GET", "a")
    cluster.run()
    cluster.release()
    cluster.pass_ms(100)
    assert client.replies[write] == OK
    assert client.replies[read] == bulk("1")


def test_a_write_that_was_lost_with_its_leader_does_not_come_after_later_ones(moved):
    cluster, _, old, _ = moved
    client = Client(cluster, old)
    for other in cluster.followers():
        cluster.disconnect(old, other)
    first = client.send("SET", "a", "1")
    cluster.run()
    cluster.pass_ms(2_000)
    for other in (1, 2, 3):
        if other != old:
            cluster.connect(old, other)
    # The old leader hears of its successor before it hears what became of the first write.
    cluster.edit = lambda source, target, frame: _without_entries(frame, target == old)
    cluster.pass_ms(100)
    assert cluster.nodes[old].leader_of(0) == cluster.leader() != old
    assert first not in client.replies
    second = client.send("SET", "a", "2")
    cluster.pass_ms(50)
    cluster.edit = None
    cluster.pass_ms(500)
    assert (client.replies[first], client.replies[second]) == (OK, OK)
    assert client.ask("GET", "a") == bulk("2")


def _without_entries(frame, wanted):
    if wanted:
        frame.core = [pair for pair in frame.core if not hasattr(pair[1], "entries")]
    return frame


def test_a_read_behind_a_watch_is_not_older_than_what_is_watched():
    """Else a change between them is missed, and EXEC overwrites it."""
    cluster = Cluster()
    leader = cluster.leader()
    client, other = Client(cluster, leader), Client(cluster, leader)
    other.ask("SET", "a", "1")
    cluster.slow = {(one, leader) for one in cluster.followers()}
    other.send("SET", "a", "2")
    cluster.run()
    # In one turn: WATCH and GET of this client, and the acknowledgement of the other's write.
    watch, read = client.send_watch("a"), client.send("GET", "a")
    cluster.release()
    for frame in cluster.frames:
        cluster.deliver(*frame)
    cluster.frames.clear()
    cluster.run()
    assert client.replies[watch] == OK
    done = client.transact("SET a mine")
    assert (client.replies[read], done) in [
        (bulk("1"), b"*-1\r\n"),
        (bulk("2"), b"*1\r\n+OK\r\n"),
    ]


def test_a_read_behind_a_watch_that_waited_for_a_leader_is_not_older(parked):
    other, client = Client(parked, 1), Client(parked, 1)
    other.send("SET", "a", "2")
    client.ticket += 10
    watch, read = client.send_watch("a"), client.send("GET", "a")
    parked.held = set()
    parked.pass_ms(50)
    assert client.replies[watch] == OK
    done = client.transact("SET a mine")
    assert (client.replies[read], done) in [(NIL, b"*-1\r\n"), (bulk("2"), b"*1\r\n+OK\r\n")]


def test_a_watch_that_failed_may_be_tried_again():
    cluster = Cluster(leader_wait_us=500_000)
    node = cluster.leader()
    client = Client(cluster, node)
    for other in cluster.followers():
        cluster.disconnect(node, other)
    cluster.pass_ms(1_000)
    watch = client.send_watch("a")
    cluster.pass_ms(600)
    assert client.replies[watch].startswith(b"-CLUSTERDOWN")
    for other in (1, 2, 3):
        if other != node:
            cluster.connect(node, other)
    cluster.settle()
    cluster.pass_ms(100)
    assert client.watch(b"a") == OK
    assert client.transact("SET a 1") == b"*1\r\n+OK\r\n"


@pytest.mark.parametrize("entry_leads", [False, True])
def test_a_write_without_an_outcome_holds_up_no_other_session(entry_leads):
    """The leader vanishes without a word while a forwarded write is under way to it."""
    cluster = Cluster()
    old = cluster.leader()
    followers = cluster.followers()
    sessions = {number: Client(cluster, number) for number in followers}

    def vanish(source, target, frame):
        return None if old in (source, target) else frame

    cluster.edit = vanish
    cluster.nodes[followers[0]].replicas[0].core.election_us += 10_000_000
    new = followers[1]
    stuck = Client(cluster, new if entry_leads else followers[0])
    lost = stuck.send("SET", "a", "1")
    while not cluster.nodes[new].serving:
        cluster.pass_ms(10)
    asked = [
        (one, one.send(*words))
        for one in sessions.values()
        for words in (("SET", f"b{one.number}", "1"), ("GET", "c"))
    ]
    cluster.pass_ms(200)
    assert lost not in stuck.replies
    assert [one.replies.get(ticket) for one, ticket in asked] == [OK, NIL] * 2


@pytest.mark.parametrize("at_leader", [False, True])
def test_commands_behind_a_transaction_that_waits_for_its_watch_come_after_it(at_leader):
    cluster = Cluster()
    client = Client(cluster, cluster.leader() if at_leader else cluster.follower())
    client.send_watch("{t}a")
    done = client.send_exec("SET {t}b 1")
    read, write = client.send("GET", "{t}b"), client.send("SET", "{t}b", "2")
    cluster.run()
    assert client.replies[done] == b"*1\r\n+OK\r\n"
    assert (client.replies[read], client.replies[write]) == (bulk("1"), OK)
    assert client.ask("GET", "{t}b") == bulk("2")


@pytest.mark.parametrize("entry_leads", [False, True])
def test_a_write_without_an_outcome_holds_up_others_no_longer_than_an_election(entry_leads):
    """Its leader vanished without a word: soon after there is a new one, its outcome is unknown."""
    cluster = Cluster()
    old = cluster.leader()
    entry, new = cluster.followers()
    cluster.edit = lambda source, target, frame: None if old in (source, target) else frame
    cluster.nodes[entry].replicas[0].core.election_us += 10_000_000
    stuck = Client(cluster, new if entry_leads else entry)
    other = Client(cluster, stuck.number)
    lost = stuck.send("SET", "a", "1")
    while not cluster.nodes[new].serving:
        cluster.pass_ms(10)
    after = other.send("SET", "b", "1")
    cluster.pass_ms(300)
    assert lost not in stuck.replies
    cluster.pass_ms(500)
    assert stuck.replies[lost].startswith(b"-UNKNOWN maybe applied")
    assert other.replies[after] == OK
    assert cluster.nodes[stuck.number].pending == 0


@pytest.mark.parametrize("later", [("SET", "a", "2"), ("GET", "a")])
def test_what_comes_behind_a_refused_command_is_refused_as_well(later):
    """It is under way already when the node begins to lead; the refused one is sent again."""
    cluster = Cluster()
    old = cluster.leader()
    third, entry = cluster.followers()
    client = Client(cluster, entry)
    cluster.slow = {(entry, old), (old, entry)}
    tickets = [client.send("SET", "a", "1")]
    cluster.turn(entry)
    tickets.append(client.send(*later))
    cluster.turn(entry)
    frames, cluster.frames = cluster.frames, []
    assert len(frames) == 2
    move(cluster, old, third)
    cluster.nodes[old].on_frame(entry, frames[0][2])
    cluster.run()
    cluster.slow = set()
    waiting, cluster.waiting = cluster.waiting, []
    refusals = [frame for frame in waiting if decode_frame(frame[2]).refused]
    assert len(refusals) == 1
    move(cluster, third, old)
    cluster.nodes[old].on_frame(entry, frames[1][2])
    cluster.run()
    assert tickets[1] not in client.replies
    cluster.frames += refusals
    cluster.pass_ms(100)
    assert client.replies[tickets[0]] == OK
    assert client.replies[tickets[1]] == (OK if later[0] == "SET" else bulk("1"))
    assert client.ask("GET", "a") == bulk("2" if later[0] == "SET" else "1")
    assert cluster.idle()


def move(cluster, old, new):
    """The leader hands over."""
    cluster.nodes[old].serving[0].core.transfer(new, cluster.clock.now_us())
    cluster.run()
    cluster.pass_ms(20)
    assert cluster.leader() == new


def test_a_batch_that_a_later_leader_overtook_is_decided_at_once():
    """Its place in the log is never reached if nobody writes; nothing must wait for that."""
    cluster = Cluster()
    old = cluster.leader()
    client = Client(cluster, old)
    for other in cluster.followers():
        cluster.disconnect(old, other)
    tickets = [client.send("SET", "a", "0")]
    cluster.turn(old)
    tickets += [client.send("APPEND", "a", str(number)) for number in range(1, 9)]
    cluster.turn(old)
    tickets += [client.send("APPEND", "a", "9") for _ in range(5)]
    cluster.turn(old)
    assert len(cluster.nodes[old].replicas[0].inflight) > 1
    cluster.pass_ms(2_000)
    for other in (1, 2, 3):
        if other != old:
            cluster.connect(old, other)
    cluster.pass_ms(300)
    assert cluster.leader() != old
    assert all(one in client.replies for one in tickets)
    assert client.ask("GET", "a") == bulk("01234567899999")
    assert cluster.idle()
