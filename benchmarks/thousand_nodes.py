"""A thousand nodes in virtual time: machines join, leave and die, and the rebalancer's own decisions
(node/cluster/decide.py) bring the replicas to where they belong.

    python benchmarks/thousand_nodes.py [--nodes 1000] [--shards 4096] [--zones 5] [--moves 64]

Only copying is modelled: a node sends one replica at a time, at `rebalance_bytes_per_s`; a change of members
takes 10 ms. What is printed: how even the ring is (the fullest node's replicas beside its share), copies
and bytes beside the least that any plan would need, the virtual time until every shard has its replicas
again, and the processor time of the decisions.
"""

import argparse
import heapq
import random
import time

import msgspec

from quoit.node.cluster.changes import Found, NodeSeen, SetState, change_cluster
from quoit.node.cluster.decide import decide
from quoit.node.cluster.messages import Ask
from quoit.node.cluster.observed import Observed, ShardSeen
from quoit.node.cluster.state import META_SHARD, ClusterState, NodeRecord, Settings, holders
from quoit.placement.ring import NodeInfo
from quoit.placement.shard_map import ShardMap
from quoit.placement.show import node_rows
from quoit.quorum.members import Members

_CHANGE_S = 0.01


class Run:
    """away: nodes that died; sizes: shard -> bytes of a replica; free: node -> when it may send again"""

    def __init__(self, nodes: int, shards: int, zones: int, moves: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.zones = zones
        infos = [NodeInfo(one, f"n{one}", f"z{one % zones}") for one in range(1, nodes + 1)]
        placed = ShardMap.create(shards, infos, 3).shards
        records = tuple(
            NodeRecord(id=one.id, name=one.name, zone=one.zone, state="live") for one in infos
        )
        settings = Settings(rebalance_moves=moves, dead_after_s=600)
        self.state = change_cluster(ClusterState(), Found(records, placed, settings), 0)
        self.members = {one.id: Members(one.replicas) for one in placed}
        self.members[META_SHARD] = Members((1, 2, 3))
        self.index = dict.fromkeys(self.members, 0)
        self.sizes = {one.id: self.rng.randrange(32, 256) * 1_000_000 for one in placed}
        self.away: set[int] = set()
        self.asked: dict[int, Ask] = {}
        self.free: dict[int, float] = {}
        self.events: list[tuple[float, int]] = []
        self.now = 0.0
        self.cpu = 0.0

    def seen(self) -> Observed:
        up = frozenset(one.id for one in self.state.nodes) - self.away
        shards = {
            number: ShardSeen(
                members, self.index[number], self.leader(members), None, 0,
                self.sizes.get(number, 0),
            )
            for number, members in self.members.items()
        }  # fmt: skip
        away = dict.fromkeys(self.away, 600_000_000)
        return Observed(
            complete=True, shards=shards, connected=up, away_us=away, asked=dict(self.asked),
            quiet_us=10_000_000 if not self.asked else 0,
        )  # fmt: skip

    def leader(self, members: Members) -> int:
        return next((one for one in members.voters if one not in self.away), members.voters[0])

    def settle(self) -> None:
        """Until nothing is left to do."""
        while True:
            begun = time.process_time()
            found = decide(self.state, self.seen())
            self.cpu += time.process_time() - begun
            if found.change is not None:
                self.state = change_cluster(self.state, found.change, int(self.now * 1000))
                self.now += _CHANGE_S
            for ask in found.requests:
                self.begin(ask)
            if found.change is None and not found.requests:
                if not self.events:
                    return
                self.now, shard = heapq.heappop(self.events)
                self.end(shard)

    def begin(self, ask: Ask) -> None:
        self.asked[ask.shard] = ask
        end = self.now + 2 * _CHANGE_S
        if ask.kind != "remove-replica":
            sender = self.leader(self.members[ask.shard])
            begin = max(self.now, self.free.get(sender, 0.0))
            rate = self.state.settings.rebalance_bytes_per_s
            end = self.free[sender] = begin + self.sizes.get(ask.shard, 0) / rate
            end += 4 * _CHANGE_S
        heapq.heappush(self.events, (end, ask.shard))

    def end(self, shard: int) -> None:
        ask = self.asked.pop(shard)
        members = self.members[shard]
        if ask.kind == "remove-replica":
            members = members.without(ask.node)
        else:
            members = members.with_learner(ask.node).with_voter(ask.node)
            if ask.kind == "move":
                members = members.without(ask.source)
        self.members[shard] = members
        self.index[shard] += 1

    def fullest(self) -> float:
        """Of all nodes, replicas / share."""
        shards = ShardMap.of(
            tuple(
                msgspec.structs.replace(one, replicas=self.members[one.id].voters)
                for one in self.state.shards
            )
        )
        return max(row.over for row in node_rows(shards, holders(self.state), 3, self.sizes))

    def tell(self, what: str) -> None:
        """Settle, and print what that took."""
        known = {job.id for job in self.state.jobs}
        before, self.cpu = self.now, 0.0
        self.settle()
        jobs = [job for job in self.state.jobs if job.id not in known]
        copies, least = sum(job.copies for job in jobs), sum(job.copies_min for job in jobs)
        size, size_min = sum(job.bytes for job in jobs), sum(job.bytes_min for job in jobs)
        print(
            f"{what:<24} {copies:>5} copies (least {least:>5})  {size / 1e9:>7.1f} GB "
            f"(least {size_min / 1e9:>6.1f})  healed after {self.now - before:>6.0f} s  fullest "
            f"{self.fullest():.2f} of its share  {self.cpu:>5.1f} s of CPU"
        )

    def join(self, count: int) -> None:
        for _ in range(count):
            number = self.state.nodes[-1].id + 1
            said = NodeRecord(id=number, name=f"n{number}", zone=f"z{number % self.zones}")
            self.state = change_cluster(self.state, NodeSeen(said), int(self.now * 1000))

    def pick(self, count: int) -> list[int]:
        """Nodes whose loss together takes no shard's majority."""
        found: list[int] = []
        for node in self.rng.sample(
            [one.id for one in holders(self.state)], len(holders(self.state))
        ):
            gone = {*found, node, *self.away}
            if all(
                2 * len(gone & set(one.voters)) < len(one.voters) for one in self.members.values()
            ):
                found.append(node)
            if len(found) == count:
                break
        return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--shards", type=int, default=4096)
    parser.add_argument("--zones", type=int, default=5)
    parser.add_argument("--moves", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    run = Run(given.nodes, given.shards, given.zones, given.moves, given.seed)
    run.settle()
    print(f"{given.nodes} nodes, {given.shards} shards, fullest {run.fullest():.2f} of its share")
    run.join(1)
    run.tell("1 joins")
    run.join(20)
    run.tell("20 join")
    for node in run.pick(10):
        run.state = change_cluster(
            run.state, SetState(node, "decommissioning"), int(run.now * 1000)
        )
    run.tell("10 are decommissioned")
    run.away |= set(run.pick(1))
    run.tell("1 dies")
    run.away |= set(run.pick(10))
    run.tell("10 die")
    for shard in run.state.shards:
        voters = run.members[shard.id].voters
        zones = {run.state.node(one).zone for one in voters}  # type: ignore[union-attr]
        if len(voters) != 3 or len(zones) != 3 or set(voters) & run.away:
            raise SystemExit(f"shard {shard.id} is on {voters} in {len(zones)} zones")
    print("every shard has three replicas in three zones, none on a node that is gone")


if __name__ == "__main__":
    main()
