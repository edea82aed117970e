"""Which of its leaderships a node gives away: those it cannot serve, and those that belong elsewhere.

The first of a shard's replicas in the cluster's record is its preferred leader (without a record its first
voter), so that the placement balances leaders, too. After a failure somebody else leads; once the
preferred node has been back for a while it gets its shards back, one at a time (a transfer is a pause of
a few milliseconds). If the record prefers another one from now on, that one gets the shard at once. A node
that is drained, or told to go, gives away all that it leads.
"""

from collections.abc import Callable

from quoit.base.seams import Trace
from quoit.node.cluster.decide import preferred_leader
from quoit.node.cluster.state import LIVE, ClusterState
from quoit.node.config import NodeConfig
from quoit.node.dispatcher import Dispatcher
from quoit.node.persistence import Persistence
from quoit.node.replica import Replica

__all__ = ["Leadership"]

_LOOK_US = 1_000_000
_LOST_FACTOR = 60


class Leadership:
    """suspended  the disk hangs: this node leads nothing until it answers
    since      shard -> when this node began to serve it
    wanted     shard -> (its preferred leader, since when: 0 if it was so at the first look)
    """

    def __init__(
        self,
        config: NodeConfig,
        dispatcher: Dispatcher,
        persistence: Persistence,
        trace: Trace,
        record: Callable[[], ClusterState] = ClusterState,
    ) -> None:
        self.config = config
        self.dispatcher = dispatcher
        self.persistence = persistence
        self.trace = trace
        self.suspended = False
        self.record = record
        self.since: dict[int, int] = {}
        self.wanted: dict[int, tuple[int, int]] = {}
        self.next_look_us = 0

    def watch_disk(self, now_us: int) -> None:
        """A node whose log write hangs keeps its network and so its leaderships, yet can promise
        nothing: it hands them over, and campaigns for none, until the disk answers. One whose disk
        is full hands over what it leads, once, lest two full ones play ping-pong."""
        dispatcher = self.dispatcher
        hangs = self.persistence.hangs(now_us, self.config.disk_hang_us)
        if hangs != self.suspended:
            self.suspended = hangs
            self.trace("disk_hangs" if hangs else "disk_answers")
            for replica in dispatcher.replicas.values():
                replica.core.suspended = hangs
            if hangs:
                self.hand_over(now_us)
        has_room = self.persistence.log.has_room
        if has_room != dispatcher.has_room:
            dispatcher.has_room = has_room
            self.trace("disk_has_room" if has_room else "disk_full")
            if not has_room:
                self.hand_over(now_us)

    def hand_over(self, now_us: int) -> None:
        """Transfer every leadership to the follower that is furthest."""
        connected = self.dispatcher.connected
        for replica in self.dispatcher.serving.values():
            core = replica.core
            voters = core.members.voters
            others = [peer for peer in voters if peer in connected and peer != self.config.node_id]
            # Between turns `serving` may name a replica that has just stepped down.
            if others and core.is_leader:
                core.transfer(core.most_advanced(others), now_us)

    def give_back(self, now_us: int) -> None:
        """Transfer one leadership to its preferred node, if that has been there for long enough; all of
        them if this node may not lead."""
        if now_us < self.next_look_us:
            return
        self.next_look_us = now_us + _LOOK_US
        own = self.record().node(self.config.node_id)
        leaves = own is not None and own.state != LIVE
        for replica in self.dispatcher.serving.values():
            preferred = self.preferred(replica)
            known = self.wanted.get(replica.id)
            if known is None or known[0] != preferred:
                self.wanted[replica.id] = (preferred, now_us if known is not None else 0)
            if leaves:
                self._give_away(replica, now_us)
            elif self._belongs_elsewhere(replica, preferred, now_us):
                self.trace("give_back", shard=replica.id, to=preferred)
                replica.core.transfer(preferred, now_us)
                return

    def preferred(self, replica: Replica) -> int:
        """Who should lead the shard, be it there or not."""
        members = replica.core.members
        state = self.record()
        if not state.nodes:
            return members.voters[0]
        return preferred_leader(state, replica.id, members, set(members.voters))

    def _give_away(self, replica: Replica, now_us: int) -> None:
        """This node may not lead: transfer it to the first that is there and may."""
        core, own = replica.core, self.config.node_id
        up = {*self.dispatcher.connected} - {own}
        record = self.record()
        heir = preferred_leader(record, replica.id, core.members, up)
        node = record.node(heir)
        if heir not in up or node is None or node.state != LIVE:
            return  # nobody may lead it who is there
        if core.is_leader and not core.transfer_to:
            if core.keeps_up(heir):
                self.trace("give_away", shard=replica.id, to=heir)
                core.transfer(heir, now_us)

    def _belongs_elsewhere(self, replica: Replica, preferred: int, now_us: int) -> bool:
        core = replica.core
        there_since = self.dispatcher.connected.get(preferred)
        if there_since is None or not core.is_leader or core.transfer_to:
            return False
        if self.wanted[replica.id][1] > self.since.get(replica.id, 0):
            return core.keeps_up(preferred)  # somebody decided so since
        wait_us = self.config.give_back_after_us
        if there_since < self.since.get(replica.id, 0):
            # It was there when it lost the shard, so it may have given it away for a reason.
            wait_us *= _LOST_FACTOR
        begun = max(there_since, self.since.get(replica.id, 0))
        return now_us - begun >= wait_us and core.keeps_up(preferred)
