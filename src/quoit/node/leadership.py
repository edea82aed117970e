"""Which of its leaderships a node gives away: those it cannot serve, and those that belong elsewhere.

A shard's first voter is its preferred leader, so that the placement balances leaders, too. After a
failure somebody else leads; once the preferred node has been back for a while it gets its shards
back, one at a time (a transfer is a pause of a few milliseconds).
"""

from quoit.base.seams import Trace
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
    """

    def __init__(
        self, config: NodeConfig, dispatcher: Dispatcher, persistence: Persistence, trace: Trace
    ) -> None:
        self.config = config
        self.dispatcher = dispatcher
        self.persistence = persistence
        self.trace = trace
        self.suspended = False
        self.since: dict[int, int] = {}
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
        """Transfer one leadership to its preferred node, if that has been there for long enough."""
        if now_us < self.next_look_us:
            return
        self.next_look_us = now_us + _LOOK_US
        for replica in self.dispatcher.serving.values():
            if self._belongs_elsewhere(replica, now_us):
                preferred = replica.core.members.voters[0]
                self.trace("give_back", shard=replica.id, to=preferred)
                replica.core.transfer(preferred, now_us)
                return

    def _belongs_elsewhere(self, replica: Replica, now_us: int) -> bool:
        core = replica.core
        preferred = core.members.voters[0]
        there_since = self.dispatcher.connected.get(preferred)
        if there_since is None or not core.is_leader or core.transfer_to:
            return False
        wait_us = self.config.give_back_after_us
        if there_since < self.since.get(replica.id, 0):
            # It was there when it lost the shard, so it may have given it away for a reason.
            wait_us *= _LOST_FACTOR
        begun = max(there_since, self.since.get(replica.id, 0))
        return now_us - begun >= wait_us and core.keeps_up(preferred)
