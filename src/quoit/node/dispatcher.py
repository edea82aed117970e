"""Where a command goes on this node, and how it is answered: run by a replica that leads here,
forwarded to the node that does, or parked until somebody does.
"""

from collections.abc import Callable
from typing import Any

from quoit.base.errors import Overloaded
from quoit.base.seams import Clock, Rng
from quoit.node.batch import VERSIONS, Transaction
from quoit.node.config import NodeConfig
from quoit.node.fanout import settle
from quoit.node.forwarding import Forwarder
from quoit.node.messages import Frame
from quoit.node.replica import Replica
from quoit.node.router import Router
from quoit.node.session import Item, Session, owner_of

__all__ = ["BUSY", "Dispatcher", "size_of"]

BUSY = b"-BUSY too many commands wait on this node, nothing was changed; try again later\r\n"
UNKNOWN = (
    b"-UNKNOWN maybe applied: the outcome of this write was not learned in time; "
    b"read before you send it again\r\n"
)
DISK_FULL = (
    b"-DISKFULL the disk of the node that leads this key is full, nothing was changed; "
    b"free some space there, writes go on by themselves\r\n"
)
_NO_ANSWER = b"-CLUSTERDOWN shard %d did not answer in time; nothing was changed, try again\r\n"
_NO_LEADER = b"-CLUSTERDOWN shard %d has no leader; nothing was changed, try again\r\n"


def _ticket(waiting: tuple[Item, int]) -> int:
    """Grows with each command of a session; between sessions order means nothing."""
    item, _ = waiting
    origin = item[0]
    ticket: int = item[1] if origin.direct else getattr(origin, "ticket", item[1])
    return ticket


def size_of(arguments: Any) -> int:
    """Bytes that a queued command's arguments keep alive, roughly."""
    if type(arguments) is list and len(arguments) == 3:
        return len(arguments[2])
    if type(arguments) is Transaction:
        return sum(sum(map(len, args)) for _, _, args in arguments.commands)
    return sum(map(len, arguments))


class Dispatcher:
    """See the module's docstring.

    replicas   shard -> this node's replica of it
    serving    shard -> replica, only those that lead and may run commands
    settled    those of them for which nothing from before waits or is under way: what comes is run
    parked     shard -> commands (with their deadlines) that wait for a leader
    hints      shard -> leader, for shards without a replica here
    retry_us   shard -> when to try the leader that this node knows again
    connected  peer -> since when
    pending    commands accepted and not answered; pending_bytes: the writes' arguments among them
    replies    answers of this turn: (session, ticket, reply)
    has_room   the log takes new writes
    digest     what to do when a replica is to digest its data (set by the node)
    """

    def __init__(
        self,
        config: NodeConfig,
        clock: Clock,
        rng: Rng,
        router: Router,
        counters: dict[str, int],
        outgoing: Callable[[int], Frame],
        first_id: int,
    ) -> None:
        self.config = config
        self.clock = clock
        self.rng = rng
        self.router = router
        self.counters = counters
        self.outgoing = outgoing
        self.outcome_wait_us = config.outcome_wait_us
        self.replicas: dict[int, Replica] = {}
        self.serving: dict[int, Replica] = {}
        self.settled: dict[int, Replica] = {}
        self.parked: dict[int, list[tuple[Item, int]]] = {}
        self.hints: dict[int, int] = {}
        self.retry_us: dict[int, int] = {}
        self.connected: dict[int, int] = {}
        self.pending = 0
        self.pending_bytes = 0
        self.replies: list[tuple[Session, int, bytes]] = []
        self.has_room = True
        self.digest: Callable[[Replica], None] = lambda replica: None
        self.wall_ms = clock.wall_ms()
        self.forwarder = Forwarder(self, first_id)

    # Placing

    def full(self) -> bool:
        """Too much waits already: refuse what a client sends now."""
        config = self.config
        if (
            self.pending < config.pending_commands_max
            and self.pending_bytes < config.pending_bytes_max
        ):
            return False
        self.counters["busy"] += 1
        return True

    def dispatch(self, shard: int, item: Item, after_write: bool) -> None:
        """Accept the item and run it on the shard, wherever it is led."""
        self.pending += 1
        if item[2].write:
            self.pending_bytes += size_of(item[3])
            replica = self.settled.get(shard)
            if replica is not None and self.has_room:
                # `_place` in short, for the usual case.
                replica.queue.append(item)
                return
        elif item[2] is VERSIONS:
            item[0].begin(shard)
        self._place(shard, item, after_write)

    def _place(self, shard: int, item: Item, after_write: bool, until_us: int = 0) -> None:
        replica = self.settled.get(shard)
        if replica is not None:
            self._queue(replica, item, after_write)
        # Behind what is parked, even of others: it is looked at again at the end of the turn.
        elif shard in self.parked or self._must_wait(shard, item):
            self._park(shard, item, until_us)
        else:
            self._go(shard, item, after_write, until_us)

    def _go(self, shard: int, item: Item, after_write: bool, until_us: int) -> None:
        replica = self.serving.get(shard)
        if replica is not None:
            self._queue(replica, item, after_write)
            return
        leader = self.leader_of(shard)
        if leader and leader != self.config.node_id and leader in self.connected:
            self.counters["forwards"] += 1
            now = self.clock.now_us()
            until = until_us or now + self.config.leader_wait_us
            self.forwarder.send(shard, leader, item, after_write, now, until)
        else:
            self._park(shard, item, until_us)

    def _must_wait(self, shard: int, item: Item) -> bool:
        """Earlier commands have no outcome yet, and may have to be run again: what comes later must
        not overtake them."""
        replica = self.replicas.get(shard)
        if replica is not None and replica.orphans:
            return True
        return self.forwarder.waits(shard, self._leader(shard), item)

    def _leader(self, shard: int) -> int:
        """Where commands for the shard go now."""
        return self.config.node_id if shard in self.serving else self.leader_of(shard)

    def _queue(self, replica: Replica, item: Item, after_write: bool) -> None:
        if item[2].write and not self.has_room:
            self.counters["refused"] += 1
            self.answer(replica.id, item, DISK_FULL)
        elif after_write or item[2].write:
            replica.queue.append(item)
        else:
            replica.reads.append(item)

    def _park(self, shard: int, item: Item, until_us: int) -> None:
        self.settled.pop(shard, None)
        deadline = until_us or self.clock.now_us() + self.config.leader_wait_us
        self.parked.setdefault(shard, []).append((item, deadline))

    def release_parked(self, now_us: int) -> None:
        """Place what can be placed now; refuse what waited for too long."""
        for shard in list(self.parked):
            leader = self._leader(shard)
            if self._ready(shard, leader, now_us):
                self._release(shard, leader)
            waiting = self.parked.get(shard, [])
            overdue = [item for item, deadline in waiting if deadline <= now_us]
            if overdue:
                rest = [pair for pair in waiting if pair[1] > now_us]
                if rest:
                    self.parked[shard] = rest
                else:
                    del self.parked[shard]
                for item in overdue:
                    self.counters["refused"] += 1
                    self.answer(shard, item, _NO_LEADER % shard)

    def _ready(self, shard: int, leader: int, now_us: int) -> bool:
        """Commands for the shard may go to `leader`, but for those of some sessions."""
        replica = self.replicas.get(shard)
        if replica is not None and replica.orphans:
            return False
        if shard in self.serving:
            return True
        return (
            leader != self.config.node_id
            and leader in self.connected
            and now_us >= self.retry_us.get(shard, 0)
            and not self.forwarder.draining(shard, leader)
        )

    def _release(self, shard: int, leader: int) -> None:
        waiting = self.parked.pop(shard)
        behind = self.forwarder.owners_behind(shard, leader)
        if behind:
            kept = [pair for pair in waiting if owner_of(pair[0]) in behind]
            if kept:
                self.parked[shard] = kept
                waiting = [pair for pair in waiting if owner_of(pair[0]) not in behind]
        # What was refused or lost came back late: each session's commands in their order.
        waiting.sort(key=_ticket)
        for item, deadline in waiting:
            # As if behind a write: a part of a command does not know its session's writes.
            after = not item[0].direct or shard in item[0].unanswered
            self._go(shard, item, after, deadline)

    def settle(self) -> None:
        """Look again which replicas are settled."""
        self.settled = {
            shard: replica
            for shard, replica in self.serving.items()
            if shard not in self.parked
            and not replica.orphans
            and not self.forwarder.under_way(shard)
        }

    def leader_of(self, shard: int) -> int:
        """The shard's leader as this node knows it; 0 if it does not."""
        replica = self.replicas.get(shard)
        if replica is None:
            return self.hints.get(shard, 0)
        core = replica.core
        if core.leader or self.config.node_id in core.members.voters:
            return core.leader
        # A learner that has not been told anything yet, or a replica that is not wanted any more.
        return self.hints.get(shard, 0)

    def take_hints(self, hints: list[tuple[int, int]], now_us: int) -> None:
        """(shard, leader or 0) of commands that a peer refused."""
        for shard, leader in hints:
            if leader and shard not in self.replicas:
                self.hints[shard] = leader
            # Why: two nodes with different views must not bounce a command between them.
            self.retry_us[shard] = now_us + 2 * self.config.tick_us

    def receive(self, shard: int, item: Item, after_write: bool) -> bool:
        """A command that a peer forwarded. False: not led here. Overloaded: refused."""
        replica = self.serving.get(shard)
        if replica is None or replica.orphans:
            return False
        config = self.config
        spec = item[2]
        # Twice the bound for clients: the peer has accepted it, and bounds what it accepts.
        if (
            self.pending >= 2 * config.pending_commands_max
            or self.pending_bytes >= 2 * config.pending_bytes_max
        ):
            raise Overloaded("too many commands wait on this node")
        self.counters["forwards_received"] += 1
        if not after_write and not spec.write and replica.core.lease_valid(self.clock.now_us()):
            reply = replica.read_now(spec, item[3], item[4], item[5], self.wall_ms)
            if reply is not None:
                self.counters["reads_local"] += 1
                item[0].deliver(item[1], reply)
                return True
            after_write = True
        self.pending += 1
        if spec.write:
            self.pending_bytes += size_of(item[3])
        self._queue(replica, item, after_write)
        return True

    # Answering

    def reply(self, session: Session, ticket: int, reply: bytes) -> None:
        """Answer a client."""
        if not session.closed:
            self.replies.append((session, ticket, reply))

    def answer(self, shard: int, item: Item, reply: bytes) -> None:
        """The item's reply is final."""
        origin = item[0]
        self.pending -= 1
        write = item[2].write
        if write:
            self.pending_bytes -= size_of(item[3])
        if origin.direct:
            if write:
                settle(origin, shard)
            if not origin.closed:
                self.replies.append((origin, item[1], reply))
        else:
            origin.deliver(item[1], reply)

    def unknown(self, shard: int, item: Item) -> None:
        """The item's outcome is unknown. A read is refused: asked again, it might see a later write of
        its session whose outcome is unknown as well."""
        if item[2].write:
            self.counters["unknown_outcomes"] += 1
            self.answer(shard, item, UNKNOWN)
        else:
            self.counters["refused"] += 1
            self.answer(shard, item, _NO_ANSWER % shard)

    def redispatch(self, shard: int, item: Item, until_us: int = 0) -> None:
        """Proven not applied: let it wait for the shard's leader until `until_us` (0: as long as new
        ones do), or tell the node it came from."""
        origin = item[0]
        if not origin.direct and origin.refuse(item[1], shard, self.leader_of(shard)):
            self.pending -= 1
            if item[2].write:
                self.pending_bytes -= size_of(item[3])
            return
        if until_us and until_us <= self.clock.now_us():
            # Why: asked again and again, it would never end for a reply that breaks connections.
            self.counters["refused"] += 1
            self.answer(shard, item, _NO_ANSWER % shard)
            return
        self._park(shard, item, until_us)
