"""The rebalancer at work on a model: whatever happens, it ends where the plan says, and repeats nothing."""

import random

import pytest

from quoit.node.cluster.messages import Load, NodeReport, ShardReport
from quoit.quorum.members import Members
from tests.unit.node.cluster.model import SIZE, Model


def test_a_node_that_joins_gets_its_share_by_a_job_of_the_least_size():
    model = Model(1, nodes=3, shards=8)
    model.until_settled()
    assert not model.state.jobs and not model.asks
    four = model.join()
    model.until_settled()
    (job,) = model.state.jobs
    assert (job.kind, job.state, job.copies, job.moved) == ("rebalance", "done", 6, 6 * SIZE)
    assert sum(four in one.members.voters for one in model.shards.values()) in (6, 7)
    model.check_jobs()
    model.check_placement()


def test_a_decommissioned_node_gives_everything_away_and_is_removed():
    model = Model(2, nodes=4, shards=8)
    model.until_settled()
    model.decommission(1)
    model.until_settled()
    model.run(5)
    assert model.state.node(1).state == "removed"
    assert [(job.kind, job.node, job.state) for job in model.state.jobs] == [
        ("decommission", 1, "done")
    ]
    model.check_jobs()
    model.check_placement()


def test_a_node_without_a_substitute_keeps_its_replicas_and_a_joining_one_takes_them():
    model = Model(3, nodes=3, shards=4)
    model.until_settled()
    model.decommission(2)
    model.until_settled()
    (job,) = model.state.jobs
    assert job.state == "failed" and "replicas stay on n2 (4 shards)" in job.reason
    assert all(2 in one.members.voters for one in model.shards.values())
    assert model.state.node(2).state == "decommissioning"
    model.join()
    model.until_settled()
    model.run(5)
    assert model.state.node(2).state == "removed"
    model.check_jobs()
    model.check_placement()


def test_unreachable_is_not_dead_until_the_time_is_over_then_it_is_rebuilt_elsewhere():
    model = Model(4, nodes=4, shards=8, dead_after_s=60)
    model.until_settled()
    model.kill(3)
    model.run(58)
    assert model.state.node(3).state == "live" and not model.state.jobs
    model.run(6)
    assert model.state.node(3).state == "dead"
    model.until_settled()
    assert [(job.kind, job.node, job.state) for job in model.state.jobs] == [("rebuild", 3, "done")]
    model.check_jobs()
    model.check_placement()


def test_a_leader_that_sees_few_nodes_declares_nobody_dead():
    model = Model(5, nodes=5, shards=8, dead_after_s=10)
    model.until_settled()
    model.cut = {one for one in model.up if one != model.rebalancer.own} - {4}
    model.run(60)
    assert all(node.state == "live" for node in model.state.nodes)


def test_no_more_moves_at_once_than_allowed_one_for_each_pair_of_nodes():
    model = Model(6, nodes=4, shards=32, rebalance_moves=3)
    model.until_settled()
    model.join()
    most = 0
    for _ in range(3000):
        model.step()
        running = [
            one.operation.ask
            for one in model.shards.values()
            if one.operation is not None and one.id < 65535
        ]
        most = max(most, len(running))
        assert len({ask.pair for ask in running}) == len(running)
    assert most == 3
    model.until_settled()
    model.check_jobs()


def test_it_pauses_while_a_node_suffers():
    model = Model(7, nodes=3, shards=8)
    model.until_settled()
    model.loads = {2: Load(0, 300_000), 3: Load(300_000, 0)}
    model.run(3)
    model.join()
    model.run(30)
    job = model.state.running()
    led = {one.leader for one in model.shards.values()}
    assert not [ask for ask in model.asks if ask.source in (2, 3)] and job is not None and led
    assert any("paused: node" in line for line in model.rebalancer.why)
    model.loads = {}
    model.until_settled()
    model.check_jobs()


def test_a_leadership_moves_away_from_a_hot_node_one_at_a_time():
    model = Model(8, nodes=3, shards=6)
    model.until_settled()
    hot = 2 if model.rebalancer.own != 2 else 3
    before = {one.id: one.replicas[0] for one in model.state.shards}
    mine = sum(leader == hot for leader in before.values())
    model.loads = {hot: Load(500_000, 0)}
    model.run(9)
    assert {one.id: one.replicas[0] for one in model.state.shards} == before
    model.run(4)
    after = {one.id: one.replicas[0] for one in model.state.shards}
    assert sum(leader == hot for leader in after.values()) == mine - 1
    model.loads = {hot: Load(150_000, 0)}  # better, but no heir for others either
    model.run(30)
    assert model.state.running() is None and not model.asks


def test_a_node_that_was_well_in_between_is_not_hot():
    model = Model(12, nodes=3, shards=6)
    model.until_settled()
    hot = 2 if model.rebalancer.own != 2 else 3
    before = model.state.shards
    for _ in range(5):
        model.loads = {hot: Load(500_000, 0)}
        model.run(8)
        model.loads = {}
        model.run(2)
    assert model.state.shards == before


def test_what_an_earlier_leader_says_late_is_not_believed():
    model = Model(13, nodes=3, shards=1)
    model.until_settled()
    shard = model.shards[0]
    now = (Members((1, 2, 3)), 5, 1)
    for term, index, members, leader in (
        (3, *now[1:2], now[0], 1),
        (2, 9, Members((1, 2)), 2),
        (3, 4, Members((2, 3)), 1),
    ):
        report = NodeReport(
            Load(), [ShardReport(shard.id, term, index, members, None, 0, 0, 0.0)]
        )  # fmt: skip
        model.rebalancer.received(leader, report, model.now_us)
    seen = model.rebalancer.observed(model.now_us).shards[0]
    assert (seen.members, seen.index, seen.leader) == now


def test_a_cancelled_job_stays_as_it_is_and_is_not_begun_again():
    model = Model(9, nodes=3, shards=16)
    model.until_settled()
    model.join()
    while not (model.state.running() and len(model.state.running().done) >= 3):
        model.step()
    model.cancel()
    model.until_settled()
    model.run(30)
    (job,) = model.state.jobs
    assert job.state == "cancelled" and 3 <= model.made[job.id] <= 6
    for shard in model.state.shards:
        assert len(model.shards[shard.id].members.voters) == 3
    model.join()
    model.until_settled()
    model.check_jobs()
    model.check_placement()


def test_a_job_is_planned_anew_when_the_nodes_change():
    model = Model(10, nodes=3, shards=16)
    model.until_settled()
    model.join()
    while not (model.state.running() and len(model.state.running().done) >= 3):
        model.step()
    model.join()
    model.until_settled()
    first, second = model.state.jobs
    assert first.state == "cancelled" and first.reason.startswith("superseded")
    assert second.state == "done"
    assert model.made[first.id] >= len(first.done)
    model.check_jobs()
    model.check_placement()


@pytest.mark.parametrize("crash_at", range(1, 41))
def test_a_crash_of_the_leader_at_any_point_repeats_and_loses_nothing(crash_at):
    model = Model(11, nodes=3, shards=8)
    model.until_settled()
    model.events = 0
    model.crash_at = crash_at
    model.join()
    model.until_settled()
    assert model.crashes == 1
    (job,) = model.state.jobs
    assert job.state == "done" and model.made[job.id] == job.copies
    model.check_jobs()
    model.check_placement()


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_it_ends_as_planned(seed):
    rng = random.Random(seed)
    model = Model(
        seed, nodes=rng.randrange(3, 6), shards=rng.choice((4, 8, 16)), zones=rng.randrange(1, 4),
        dead_after_s=20,
    )  # fmt: skip
    model.trouble = rng.choice((0.0, 0.05, 0.2))
    for _ in range(4):
        live = [node.id for node in model.state.nodes if node.state == "live"]
        act = rng.randrange(6)
        if act <= 1 or len(live) <= 4:
            model.join(rng.choice((1.0, 2.0)))
        elif act == 2:
            model.decommission(rng.choice(live))
        elif act == 3:
            model.weigh(rng.choice(live), rng.choice((0.5, 3.0)))
        elif act == 4:
            model.until_settled()  # or two at once could take a quorum
            model.kill(rng.choice([node for node in live if node in model.up]))
            model.run(25)
            model.until_settled()
        else:
            model.cancel()
        for _ in range(rng.randrange(3)):
            model.run(rng.random() * 10)
            if rng.random() < 0.4:
                model.crash()
    model.trouble = 0.0
    model.join()
    model.until_settled()
    model.run(10)
    model.until_settled()
    model.check_placement()
    model.check_jobs(near=False)
