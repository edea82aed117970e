"""Changes to the cluster's record: what each does, and when it is refused."""

import msgspec
import pytest

from quoit.node.cluster.changes import (
    AddToken,
    BeginJob,
    BeginSplit,
    EndJob,
    EndSplit,
    Found,
    Guarded,
    Join,
    NodeSeen,
    PlaceShards,
    Progress,
    Refused,
    SetNode,
    SetSettings,
    SetState,
    change_cluster,
    decode_change,
    encode_change,
)
from quoit.node.cluster.state import (
    JOBS_MAX,
    ClusterState,
    Job,
    NodeRecord,
    Settings,
    Split,
    decode_cluster,
    encode_cluster,
)
from quoit.placement.plan import Step
from quoit.placement.shard_map import ShardRange

SHARDS = (ShardRange(0, 0, 8191, (1, 2, 3)), ShardRange(1, 8192, 16383, (2, 3, 1)))


def node(number, **fields):
    return NodeRecord(**{"id": number, "name": f"n{number}", "state": "live", **fields})


@pytest.fixture
def state():
    return founded()


def founded():
    nodes = tuple(node(number) for number in (1, 2, 3))
    return change_cluster(ClusterState(), Found(nodes, SHARDS, Settings()), 1000)


def refused(state, change, words, now_ms=2000):
    with pytest.raises(Refused, match=words):
        change_cluster(state, change, now_ms)


def test_the_first_record_is_made_once(state):
    assert state.version == 1
    assert [one.since_ms for one in state.nodes] == [1000] * 3
    assert state.next_shard == 2
    refused(state, Found((), SHARDS, Settings()), "a record already")
    refused(ClusterState(), SetState(1, "draining"), "no record yet")


def test_a_record_and_its_changes_survive_being_written(state):
    assert decode_cluster(encode_cluster(state)) == state
    change = Guarded(7, SetNode(1, zone="z"))
    assert decode_change(encode_change(change)) == change


def test_a_change_made_for_another_version_is_refused(state):
    refused(state, Guarded(2, SetState(1, "draining")), "at version 1, not 2")
    assert change_cluster(state, Guarded(1, SetState(1, "draining")), 0).version == 2


def test_what_changes_nothing_gives_the_same_state(state):
    assert change_cluster(state, SetState(1, "live"), 5000) is state
    assert change_cluster(state, SetSettings(Settings()), 5000) is state


def test_a_node_that_joins_gets_the_next_number_and_the_same_one_when_it_asks_again(state):
    after = change_cluster(state, Join(NodeRecord(id=0, name="")), 2000)
    assert (after.nodes[-1].id, after.nodes[-1].name, after.nodes[-1].state) == (4, "n4", "joining")
    named = Join(NodeRecord(id=0, name="big", peer_port=1))
    after = change_cluster(after, named, 2000)
    assert after.nodes[-1].id == 5
    again = change_cluster(after, Join(NodeRecord(id=0, name="big", peer_port=2)), 3000)
    assert (len(again.nodes), again.nodes[-1].peer_port) == (5, 2)
    refused(state, Join(NodeRecord(id=2, name="x")), "number 2 belongs to n2")
    refused(state, Join(NodeRecord(id=0, name="n2")), "node 2 is called n2 already")


def test_a_token_is_good_until_its_end(state):
    record = NodeRecord(id=0, name="")
    refused(state, Join(record, "aa"), "quoit node token")
    after = change_cluster(state, AddToken("aa", 5000), 2000)
    refused(after, Join(record, "aa"), "has ended", now_ms=5001)
    assert change_cluster(after, Join(record, "aa"), 4000).nodes[-1].id == 4


def test_a_node_that_is_seen_is_live_and_where_it_says(state):
    joining = change_cluster(state, Join(NodeRecord(id=0, name="")), 2000)
    said = NodeRecord(id=4, name="n4", host="10.0.0.4", peer_port=9, version="1")
    after = change_cluster(joining, NodeSeen(said), 3000)
    found = after.node(4)
    assert (found.state, found.host, found.since_ms) == ("live", "10.0.0.4", 3000)
    # Zone and weight are the cluster's, once it has them.
    after = change_cluster(after, SetNode(4, zone="z", weight=2.0), 3000)
    after = change_cluster(after, NodeSeen(said), 4000)
    assert (after.node(4).zone, after.node(4).weight) == ("z", 2.0)
    dead = change_cluster(after, SetState(4, "dead"), 5000)
    assert change_cluster(dead, NodeSeen(said), 6000).node(4).state == "live"
    gone = change_cluster(dead, SetState(4, "removed"), 6000)
    refused(gone, NodeSeen(said), "empty directory")
    refused(gone, SetState(4, "live"), "was removed")


def test_states_that_would_leave_nothing_are_refused(state):
    refused(state, SetState(9, "dead"), "no node 9")
    refused(state, SetState(1, "asleep"), "there is no state")
    refused(state, SetState(1, "removed"), "quoit node decommission n1")
    for number in (1, 2):
        state = change_cluster(state, SetState(number, "dead"), 2000)
    refused(state, SetState(3, "decommissioning"), "the last node")


@pytest.mark.parametrize("weight", [0, -1, 65])
def test_weights_have_bounds(state, weight):
    refused(state, SetNode(1, weight=weight), "above 0 and at most 64")


def test_one_job_at_a_time_with_its_story(state):
    step = Step(0, 4, 1, 100)
    target = (ShardRange(0, 0, 8191, (4, 2, 3)), SHARDS[1])
    begun = change_cluster(
        state, BeginJob(Job(id=0, kind="rebalance", steps=(step,)), target, "p"), 2000
    )
    job = begun.running()
    assert (job.id, job.before, begun.shards, begun.placed_for) == (1, SHARDS, target, "p")
    assert begun.epoch == state.epoch + 1
    refused(begun, BeginJob(Job(id=0, kind="rebalance")), "job 1 .* is under way")
    done = change_cluster(begun, Progress(1, (0,), 80, ("line",)), 3000)
    assert (done.job(1).done, done.job(1).moved, done.job(1).log[-1]) == ((0,), 80, (3000, "line"))
    # Late news takes nothing back.
    assert change_cluster(done, Progress(1, (), 10), 3000).job(1).moved == 80
    ended = change_cluster(done, EndJob(1, "done"), 4000)
    assert (ended.running(), ended.job(1).ended_ms) == (None, 4000)
    refused(ended, EndJob(1, "done"), "job 1")


def test_a_placement_must_cover_all_slots(state):
    refused(state, PlaceShards(SHARDS[:1]), "other shards")
    after = change_cluster(state, PlaceShards(SHARDS), 2000)
    assert after.shards == SHARDS


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"weight": -1.0}, "above 0 and at most 64"),
        ({"weight": float("nan")}, "above 0 and at most 64"),
        ({"zone": "a b"}, "a zone is"),
        ({"name": "12"}, "no bare number"),
        ({"name": "a" * 65}, "up to 64"),
        ({"host": " "}, "no host"),
        ({"admin_port": -1}, "-1 is no port"),
        ({"id": -4}, "a node's number"),
    ],
)
def test_what_placement_could_not_compute_with_does_not_join(state, fields, words):
    refused(state, Join(NodeRecord(**{"id": 0, "name": "", **fields})), words)


def test_a_zone_is_a_word_or_nothing(state):
    refused(state, SetNode(1, zone="a,b"), "a zone is")
    after = change_cluster(state, SetNode(1, zone="rack-1.b"), 2000)
    assert change_cluster(after, SetNode(1, zone=""), 2000).node(1).zone == ""


def test_nobody_is_live_by_decree(state):
    """A dead node that was called live would hold replicas again in the next plan."""
    dead = change_cluster(state, SetState(3, "dead"), 2000)
    joining = change_cluster(state, Join(NodeRecord(id=0, name="")), 2000)
    for wanted in ("live", "draining"):
        refused(dead, SetState(3, wanted), "n3 is dead; it is live as soon as it is connected")
        refused(joining, SetState(4, wanted), "n4 is joining")
    assert change_cluster(dead, SetState(3, "decommissioning"), 3000).node(3).since_ms == 3000
    assert change_cluster(joining, SetState(4, "removed"), 3000).node(4).state == "removed"


def test_a_node_that_goes_is_called_back_before_it_is_drained(state):
    going = change_cluster(state, SetState(1, "decommissioning"), 2000)
    refused(going, SetState(1, "draining"), "quoit node recommission n1")
    back = change_cluster(going, SetState(1, "live"), 3000)
    assert change_cluster(back, SetState(1, "draining"), 4000).node(1).state == "draining"


def test_a_name_is_free_again_when_its_node_was_removed(state):
    gone = change_cluster(change_cluster(state, SetState(3, "dead"), 0), SetState(3, "removed"), 0)
    after = change_cluster(gone, Join(NodeRecord(id=0, name="n3")), 2000)
    assert (after.nodes[-1].id, after.nodes[-1].name) == (4, "n3")


def test_settings_have_bounds(state):
    for name in Settings.__struct_fields__:
        if isinstance(getattr(Settings(), name), bool):
            continue
        wrong = msgspec.structs.replace(Settings(), **{name: 0})
        refused(state, SetSettings(wrong), f"{name} is 1")
    refused(state, SetSettings(Settings(replication_factor=10)), "1 to 9")
    after = change_cluster(state, SetSettings(Settings(dead_after_s=5)), 2000)
    assert after.settings.dead_after_s == 5


def test_ended_tokens_make_room_for_new_ones(state):
    for number in range(100):
        state = change_cluster(state, AddToken(f"{number}", 5000), 2000)
    refused(state, AddToken("more", 9000), "100 join tokens already")
    after = change_cluster(state, AddToken("more", 9000), 5001)
    assert after.tokens == {"more": 9000}


def test_a_split_is_decided_once_and_ends_in_two_shards(state):
    refused(state, BeginSplit(7), "no shard 7")
    refused(state, BeginSplit(0, 8192), "it can be split at 1 to 8191")
    begun = change_cluster(state, BeginSplit(0), 2000)
    assert begun.splits == (Split(0, 4096, 2),)
    assert (begun.next_shard, begun.shards) == (3, SHARDS)
    refused(begun, BeginSplit(0, 5), "being split already")
    called_off = change_cluster(begun, EndSplit(0, False), 3000)
    assert (called_off.splits, called_off.shards, called_off.next_shard) == ((), SHARDS, 3)
    done = change_cluster(begun, EndSplit(0, True), 3000)
    ranges = [(one.id, one.slot_low, one.slot_high, one.replicas) for one in done.shards]
    assert ranges == [
        (0, 0, 4095, (1, 2, 3)), (2, 4096, 8191, (1, 2, 3)), (1, 8192, 16383, (2, 3, 1)),
    ]  # fmt: skip
    assert done.epoch == begun.epoch + 1
    assert change_cluster(done, EndSplit(0, True), 4000) is done
    few = change_cluster(state, SetSettings(Settings(shards_max=2)), 2000)
    refused(few, BeginSplit(0), "shards_max allows no more")


def test_only_the_newest_jobs_are_remembered_and_one_can_be_gone_back_on(state):
    for _ in range(JOBS_MAX + 5):
        state = change_cluster(state, BeginJob(Job(id=0, kind="rebalance")), 2000)
    assert [job.id for job in state.jobs] == list(range(6, JOBS_MAX + 6))
    assert {job.state for job in state.jobs} == {"done"}
    assert [job.id for job in state.jobs if job.before][-1] == JOBS_MAX + 5
    assert len([job for job in state.jobs if job.before]) <= 2
