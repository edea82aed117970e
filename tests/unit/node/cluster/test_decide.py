"""Single decisions, and the plans and views made from the same looks."""

import msgspec
import pytest

from quoit.node.cluster.changes import (
    BeginJob,
    EndJob,
    Found,
    Guarded,
    PlaceShards,
    Progress,
    Refused,
    SetNode,
    SetSettings,
    SetState,
    change_cluster,
)
from quoit.node.cluster.decide import begin_plan, begin_revert, decide, preferred_leader, preview
from quoit.node.cluster.jobs import job_view
from quoit.node.cluster.messages import Ask, Load
from quoit.node.cluster.observed import Observed, ShardSeen, fingerprint
from quoit.node.cluster.state import META_SHARD, ClusterState, NodeRecord, Settings
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.quorum.members import Members

replace = msgspec.structs.replace


def record(nodes=4, shards=4, on=3, **settings):
    """`nodes` live ones, the shards on the first `on` of them."""
    infos = [NodeInfo(one, f"n{one}") for one in range(1, on + 1)]
    placed = ShardMap.create(shards, infos, min(3, on)).shards
    records = tuple(
        NodeRecord(id=one, name=f"n{one}", zone="z", state="live") for one in range(1, nodes + 1)
    )
    return change_cluster(ClusterState(), Found(records, placed, Settings(**settings)), 0)


def look(state, **more):
    """Everybody is there, and the shards are where the record says."""
    shards = {
        one.id: ShardSeen(Members(one.replicas), 7, one.replicas[0], bytes=100)
        for one in state.shards
    }
    voters = tuple(node.id for node in state.nodes if node.state == "live")[:3]
    shards[META_SHARD] = ShardSeen(Members(voters), 1, voters[0])
    there = frozenset(node.id for node in state.nodes)
    return replace(
        Observed(complete=True, shards=shards, connected=there, quiet_us=60_000_000), **more
    )


def seen_as(seen, shard, **more):
    return replace(seen, shards={**seen.shards, shard: replace(seen.shards[shard], **more)})


def after(state, change, now_ms=1000):
    return change_cluster(state, change, now_ms)


def begun(state=None):
    """A record with a job under way, and the look at it."""
    state = state or record()
    seen = look(state)
    return after(state, begin_plan(state, seen)), seen


def test_without_a_record_or_a_complete_look_nothing_is_done():
    assert decide(ClusterState(), Observed(complete=True)).change is None
    found = decide(record(), replace(look(record()), complete=False))
    assert found.change is None and not found.requests and found.why


def test_a_plan_is_made_once_for_the_same_nodes():
    state = record()
    found = decide(state, look(state))
    assert isinstance(found.change, Guarded) and isinstance(found.change.change, BeginJob)
    after_all = after(state, found.change)
    assert after_all.placed_for == fingerprint(after_all) == fingerprint(state)
    ended = after(after_all, EndJob(1, "cancelled", "", state.shards))
    assert decide(ended, look(ended)).change is None


def test_no_job_for_nothing_only_the_record_of_what_was_planned_for():
    state = record(nodes=3)
    change = decide(state, look(state)).change
    assert change == Guarded(state.version, PlaceShards(state.shards, fingerprint(state)))
    assert not after(state, change).jobs


def test_nothing_is_begun_when_it_is_switched_off_but_what_was_asked_for():
    state = record(rebalance=False)
    assert decide(state, look(state)).change is None
    state = after(state, SetState(1, "decommissioning"))
    change = decide(state, look(state)).change
    assert change.change.job.kind == "decommission"


def test_no_plan_while_something_is_under_way_by_hand():
    state = record()
    seen = seen_as(look(state), 0, operation=Ask("move", 0, 4, 1))
    found = decide(state, seen)
    assert found.change is None and found.why == ["an operation on shard 0 is under way"]


def test_a_step_is_asked_for_as_far_as_it_is_not_done():
    state, seen = begun()
    job = state.running()
    step = job.steps[0]
    (ask, *_) = decide(state, seen).requests
    assert ask == Ask("move", step.shard, step.add, step.remove, 7)
    voters = state_before(state, step.shard)
    half = seen_as(seen, step.shard, members=Members((*voters, step.add)), index=9)
    (ask, *_) = decide(state, half).requests
    assert ask == Ask("remove-replica", step.shard, step.remove, 0, 9)
    rest = tuple(one for one in voters if one != step.remove)
    whole = seen_as(seen, step.shard, members=Members((*rest, step.add)), index=10)
    change = decide(state, whole).change
    assert isinstance(change.change, Progress) and change.change.done == (0,)


def state_before(state, shard):
    return next(one for one in state.running().before if one.id == shard).replicas


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"barred": {0: "bad luck", 1: "bad luck", 2: "bad luck", 3: "bad luck"}}, "bad luck"),
        ({"silent": frozenset(range(4))}, "has no leader"),
        ({"connected": frozenset({1, 2, 3})}, "node 4 is not connected"),
        ({"loads": {4: Load(250_000, 0)}}, "paused: node 4's log syncs take 250 ms"),
        ({"loads": {4: Load(0, 250_000)}}, "paused: node 4's turns take 250 ms"),
    ],
)
def test_what_holds_up_a_step_is_said(more, why):
    state, seen = begun()
    found = decide(state, replace(seen, **more))
    assert not found.requests
    assert any(why in line for line in found.why), found.why


def test_what_runs_already_is_not_asked_for_again_and_counts():
    state, seen = begun(record(rebalance_moves=1))
    (ask,) = decide(state, seen).requests
    for more in (
        replace(seen, asked={ask.shard: ask}),
        seen_as(seen, ask.shard, operation=ask),
    ):
        found = decide(state, more)
        assert not found.requests and "rebalance_moves" in found.why[0]


def test_a_superseded_job_waits_for_what_is_under_way_and_ends():
    state, seen = begun()
    (ask, *_) = decide(state, seen).requests
    state = after(state, SetNode(4, weight=2.0))
    found = decide(state, replace(seen, asked={ask.shard: ask}))
    assert found.change is None and not found.requests
    change = decide(state, seen).change
    assert isinstance(change.change, EndJob) and change.change.state == "cancelled"
    state = after(state, change)
    assert isinstance(decide(state, look(state)).change.change, BeginJob)


def test_members_changed_by_hand_are_taken_over_after_a_while():
    state = record(nodes=3)
    state = after(state, decide(state, look(state)).change)
    first = state.shards[0].replicas
    seen = seen_as(look(state), 0, members=Members(first[:2]))
    assert decide(state, replace(seen, quiet_us=4_000_000)).change is None
    change = decide(state, seen).change
    assert after(state, change).shards[0].replicas == first[:2]


def test_a_replica_is_not_taken_away_while_another_is_not_there():
    state = record(nodes=4, on=4)
    state = after(state, SetSettings(Settings(replication_factor=2, rebalance_moves=9)))
    state = after(state, begin_plan(state, look(state)))
    seen = look(state)
    for one in state.running().before:
        seen = seen_as(seen, one.id, members=Members(one.replicas))
    losing = next(step for step in state.running().steps if not step.add)
    ask = Ask("remove-replica", losing.shard, losing.remove, 0, 7)
    leader = seen.shards[losing.shard].leader
    if leader == losing.remove:
        leader = next(one for one in state_before(state, losing.shard) if one != losing.remove)
        seen = seen_as(seen, losing.shard, leader=leader)
    assert ask in decide(state, seen).requests
    other = next(
        one for one in state_before(state, losing.shard) if one not in (losing.remove, leader)
    )
    found = decide(state, replace(seen, connected=seen.connected - {other}))
    assert ask not in found.requests
    assert f"shard {losing.shard} has too few replicas that are there" in found.why
    # The one to go may be away itself.
    assert ask in decide(state, replace(seen, connected=seen.connected - {losing.remove})).requests


def test_steps_of_one_shard_are_asked_for_one_after_the_other():
    state = record(nodes=6, rebalance_moves=99)
    state = after(after(state, SetState(1, "decommissioning")), SetState(2, "decommissioning"))
    state = after(state, begin_plan(state, look(state)))
    steps = state.running().steps
    assert len(steps) > len({step.shard for step in steps})
    seen = look(state)
    for one in state.running().before:
        seen = seen_as(seen, one.id, members=Members(one.replicas), leader=one.replicas[0])
    shards = [ask.shard for ask in decide(state, seen).requests if ask.shard != META_SHARD]
    assert shards and len(shards) == len(set(shards))


def test_a_learner_that_was_left_behind_goes():
    state = record(nodes=4)
    four = decide(state, look(state)).change.change.job
    idle = next(shard.id for shard in state.shards if shard.id not in {s.shard for s in four.steps})
    members = Members(state.shard(idle).replicas, (4,))
    seen = seen_as(look(state), idle, members=members)
    first = preview(state, seen).steps[0]
    assert (first.shard, first.add, first.remove, first.bytes) == (idle, 0, 4, 0)
    # Also when there is no plan to make.
    state = replace(state, placed_for=fingerprint(state))
    assert decide(state, seen).requests == [Ask("remove-replica", idle, 4, 0, 7)]


def test_the_meta_shard_is_kept_complete_and_off_nodes_that_leave():
    state = record(nodes=4)
    state = after(state, SetState(1, "decommissioning"))
    seen = look(state, loads={})
    seen = seen_as(seen, META_SHARD, members=Members((1, 2, 3)), index=5)
    asked = {ask.shard: ask for ask in decide(state, seen).requests}
    assert asked[META_SHARD] == Ask("move", META_SHARD, 4, 1, 5)
    few = seen_as(seen, META_SHARD, members=Members((2, 3)), index=6)
    asked = {ask.shard: ask for ask in decide(state, few).requests}
    assert asked[META_SHARD] == Ask("add-replica", META_SHARD, 4, 0, 6)


def test_a_node_is_removed_only_when_it_holds_nothing_not_even_the_record():
    state = record(nodes=4, on=3)
    state = after(state, SetState(4, "decommissioning"))
    state = replace(state, placed_for=fingerprint(state))
    held = seen_as(look(state), META_SHARD, members=Members((4, 2, 3)))
    assert decide(state, held).change is None
    change = decide(state, look(state)).change
    assert change.change == SetState(4, "removed")


def test_dead_after_the_time_and_not_by_a_minority():
    state = record(nodes=4)
    limit = state.settings.dead_after_s * 1_000_000
    seen = look(state, connected=frozenset({1, 2, 3}), away_us={4: limit - 1})
    assert not isinstance(decide(state, seen).change.change, SetState)
    seen = replace(seen, away_us={4: limit})
    assert decide(state, seen).change.change == SetState(4, "dead")
    alone = replace(seen, connected=frozenset({1}), away_us={2: limit, 3: limit, 4: limit})
    assert not isinstance(decide(state, alone).change.change, SetState)
    there = replace(seen, connected=frozenset({1, 2, 3, 4}))
    assert not isinstance(decide(state, there).change.change, SetState)


def test_the_preferred_leader_is_the_first_that_may_lead():
    state = record(nodes=3)
    shard = state.shards[0]
    one, two, three = shard.replicas
    members = Members(tuple(sorted(shard.replicas)))
    everyone = set(shard.replicas)
    assert preferred_leader(state, shard.id, members, everyone) == one
    assert preferred_leader(state, shard.id, members, everyone - {one}) == two
    assert preferred_leader(state, shard.id, Members((two, three)), everyone) == two
    drained = after(state, SetState(one, "draining"))
    assert preferred_leader(drained, shard.id, members, everyone) == two
    assert preferred_leader(drained, META_SHARD, Members((one, three)), everyone) == three


def test_hot_nodes_give_one_leadership_to_a_node_that_is_well():
    state = record(nodes=3)
    state = after(state, decide(state, look(state)).change)
    shard = state.shards[0]
    hot = shard.replicas[0]
    loads = {node: Load(1000, 1000) for node in (1, 2, 3)} | {hot: Load(900_000, 0)}
    seen = seen_as(look(state, loads=loads, hot_us={hot: 11_000_000}, may_cool=True), 0, ops=50.0)
    found = decide(state, seen)
    moved = after(state, found.change)
    assert found.cooled == 0 and moved.shards[0].replicas[0] != hot
    assert (
        set(moved.shards[0].replicas) == set(shard.replicas)
        and moved.shards[1:] == state.shards[1:]
    )
    for less in (
        replace(seen, hot_us={hot: 9_000_000}),
        replace(seen, may_cool=False),
        replace(seen, loads=dict.fromkeys((1, 2, 3), Load(150_000, 0))),
    ):
        assert decide(state, less).change is None


def test_a_job_can_be_gone_back_on():
    state, seen = begun()
    done = after(state, EndJob(1, "done"))
    seen = look(done)
    with pytest.raises(Refused, match="no job 9"):
        begin_revert(done, seen, 9)
    back = after(done, begin_revert(done, seen))
    job = back.running()
    assert job.kind == "revert" and job.copies == job.copies_min == len(job.steps) == 3
    assert {one.id: set(one.replicas) for one in back.shards} == {
        one.id: set(one.replicas) for one in state.jobs[0].before
    }
    assert back.placed_for == fingerprint(back)
    with pytest.raises(Refused, match="under way"):
        begin_plan(back, seen)
    gone = after(done, SetState(1, "dead"))
    with pytest.raises(Refused, match="n1"):
        begin_revert(gone, look(gone))


def test_a_preview_has_no_step_that_only_loses():
    state = record(nodes=3)
    state = after(state, SetState(3, "dead"))
    found = preview(state, look(state))
    assert not found.steps
    assert all(3 in shard.replicas for shard in found.after.shards)
    lower = after(state, SetSettings(Settings(replication_factor=2)))
    found = preview(lower, look(lower))
    assert [(step.add, step.remove) for step in found.steps] == [(0, 3)] * 4
    with pytest.raises(Refused):
        preview(state, replace(look(state), complete=False))


def test_a_job_as_people_see_it():
    state, seen = begun()
    job = state.running()
    ask = decide(state, seen).requests[0]
    state = after(state, Progress(job.id, (0,), 100, ("step 1 of 3",)), 3000)
    job = state.running()
    seen = replace(
        seen, moved=150, asked={ask.shard: ask}, waits={ask.shard: f"node {ask.node} to catch up"}
    )
    view = job_view(state, job, 6000, seen, ["paused: something"])
    assert (view.steps, view.done, view.moved, view.bytes) == (3, 1, 150, 300)
    assert (view.rate, view.eta_s, view.over) == (30.0, 5, 0.5)
    assert view.now == [
        f"shard {ask.shard}: node {ask.source} -> node 4, waits for node 4 to catch up"
    ]
    assert view.limited_by[0] == "paused: something"
    assert view.limited_by[1].startswith("rebalance_bytes_per_s")
    assert view.log[-1] == (3000, "step 1 of 3")
    ended = after(state, EndJob(job.id, "cancelled", "no more"), 11_000)
    view = job_view(ended, ended.job(job.id), 99_000)
    assert (view.state, view.reason, view.rate, view.eta_s) == ("cancelled", "no more", 10.0, 0)
