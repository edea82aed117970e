"""Commands that another node's shard leader has to run: sent there, remembered, answered.

The rule that keeps writes single: a forwarded write is sent once. If the connection breaks, or the
answer does not come in time, its outcome is unknown and the client is told so. Only a refusal
("not the leader, nothing was proposed") lets the node send it elsewhere. Reads may be sent again.

A session's commands keep their order. While one is under way to an earlier leader, the session's later
ones wait (`Forwarder.waits`); other sessions go on. And what comes behind a refused command was under way
before the entry node could know, so it is refused as well, up to the next generation: the entry node
begins one when it has heard of everything that it sent there, and sends in order what was refused.

A read is asked again only while no later write of its session is under way: that one may take effect
first, and a read never sees a later write of its own session.
"""

from typing import Any, Protocol

import msgspec

from quoit.base import limits
from quoit.base.errors import Overloaded
from quoit.base.slots import DATABASES, META_DB
from quoit.data.table import Spec
from quoit.node.batch import EXEC, VERSIONS, Transaction, find
from quoit.node.cluster.command import CHANGE
from quoit.node.config import NodeConfig
from quoit.node.messages import (
    AFTER_WRITE,
    GENERATION_SHIFT,
    PROTO3,
    TRANSACTION,
    Frame,
    TransactionForward,
    decode_transaction,
    encode_transaction,
)
from quoit.node.session import Item, Origin, owner_of
from quoit.wire import resp

__all__ = ["Forwarder", "RemoteOrigin"]

WATCH_VERSIONS = 4
"""Forward flag: reply with the versions of the keys (WATCH)."""
_TOO_LARGE = (
    b"-ERR the reply is too large to be passed on from the node that leads this key; "
    b"ask there, or for less\r\n"
)
_TOO_LARGE_APPLIED = (
    b"-UNKNOWN this was applied, but its reply is too large to be passed on from the node that leads "
    b"this key\r\n"
)
_BUSY = b"-BUSY too many commands wait on this node, nothing was changed; try again\r\n"


class Network(Protocol):
    """What the forwarder asks of its node."""

    config: NodeConfig
    outcome_wait_us: int
    counters: dict[str, int]

    def outgoing(self, peer: int) -> Frame:
        """The frame being filled for `peer`."""
        ...

    def answer(self, shard: int, item: Item, reply: bytes) -> None:
        """The item's reply is final."""
        ...

    def unknown(self, shard: int, item: Item) -> None:
        """The item's outcome is unknown, and it is not asked again."""
        ...

    def redispatch(self, shard: int, item: Item, until_us: int) -> None:
        """Proven not applied: find the shard's leader, but not after `until_us`."""
        ...

    def receive(self, shard: int, item: Item, after_write: bool) -> bool:
        """A peer's command for a shard led here; False: not led here. Overloaded: refused."""
        ...

    def leader_of(self, shard: int) -> int:
        """The shard's leader as this node knows it, 0 if it does not."""
        ...


class Lane:
    """What is under way to one peer for one shard.

    count       requests without an answer
    refused     one was refused, so all that are under way will be
    generation  of what is sent now
    """

    __slots__ = ("count", "generation", "refused")

    def __init__(self) -> None:
        self.count = 0
        self.refused = False
        self.generation = 1


class Sent(msgspec.Struct, gc=False):
    """A command that another node is running."""

    peer: int
    lane: Lane
    shard: int
    item: Item
    deadline_us: int
    until_us: int
    """It is not sent again after that."""
    parts: list[bytes] | None = None
    """Of a reply that comes in several."""


class RemoteOrigin(Origin):
    """Replies to commands that `peer` forwarded to this node.

    generations  shard -> generation of what came last
    refusing     shard -> the generation of which one was refused here, and so all others are
    """

    __slots__ = ("generations", "network", "peer", "refusing")

    def __init__(self, network: Network, peer: int) -> None:
        self.network = network
        self.peer = peer
        self.generations: dict[int, int] = {}
        self.refusing: dict[int, int] = {}

    def accepts(self, shard: int, generation: int) -> bool:
        """A command came; False: one before it was refused, so it must be, too."""
        self.generations[shard] = generation
        if self.refusing and shard in self.refusing:
            # A node of an older version knows no generations: 0.
            if generation and generation == self.refusing[shard]:
                return False
            del self.refusing[shard]
        return True

    def deliver(self, ticket: int, reply: bytes) -> None:
        replies = self.network.outgoing(self.peer).replies
        size = len(reply)
        if size <= limits.FRAME_BYTES_SOFT:
            replies.append((ticket, reply))
            return
        # More than this would fill the queue to the peer, and cut the connection for everybody: no
        # part at all says so.
        if size <= limits.FORWARDED_REPLY_BYTES_MAX:
            step = limits.FRAME_BYTES_SOFT
            replies.extend((-ticket, reply[at : at + step]) for at in range(0, size, step))
        replies.append((-ticket, b""))

    def refuse(self, ticket: int, shard: int, leader: int) -> bool:
        self.refusing[shard] = self.generations.get(shard, 0)
        self.network.outgoing(self.peer).refused.append((ticket, leader))
        return True


class Forwarder:
    """Both ends of forwarding on one node.

    sent     request id -> what was sent and not answered, oldest first
    lanes    shard -> peer -> what of `sent` is there. Invariant: of one session's commands for one
             shard only one peer has any, because they must keep their order
    behind   shard -> (leader, session -> number of its requests that other peers have); made when it is
             asked for
    hastened (deadline, request ids): writes that were sent to a leader which is one no longer
    next_id  never reused, also not after a restart of this process on a peer's side: a peer forgets
             requests with the connection
    """

    __slots__ = ("behind", "hastened", "lanes", "network", "next_id", "origins", "sent")

    def __init__(self, network: Network, first_id: int) -> None:
        self.network = network
        self.sent: dict[int, Sent] = {}
        self.lanes: dict[int, dict[int, Lane]] = {}
        self.behind: dict[int, tuple[int, dict[Any, int]]] = {}
        self.next_id = first_id
        self.origins: dict[int, RemoteOrigin] = {}
        self.hastened: list[tuple[int, list[int]]] = []

    def send(
        self, shard: int, peer: int, item: Item, after_write: bool, now_us: int, until_us: int
    ) -> None:
        """Forward the item to `peer`, which is believed to lead `shard`; not again after `until_us`."""
        request = self.next_id
        self.next_id = request + 1
        _, _, spec, args, db, proto = item
        lanes = self.lanes.get(shard)
        lane = lanes.get(peer) if lanes is not None else None
        if lane is None:
            lane = self.lanes.setdefault(shard, {})[peer] = Lane()
        elif lane.refused:
            lane.refused = False
            lane.generation += 1
        lane.count += 1
        deadline = now_us + self.network.outcome_wait_us
        self.sent[request] = Sent(peer, lane, shard, item, deadline, until_us)
        if self.behind and shard in self.behind and self.behind[shard][0] != peer:
            del self.behind[shard]
        frame = self.network.outgoing(peer)
        if spec is EXEC:
            commands = [(one_db, one_args) for one_db, _, one_args in args.commands]
            message = TransactionForward(request, shard, proto, args.watched, commands)
            flags = TRANSACTION | lane.generation << GENERATION_SHIFT
            frame.forwards.append((request, shard, flags, db, [encode_transaction(message)]))
            return
        flags = lane.generation << GENERATION_SHIFT
        if proto == 3:
            flags |= PROTO3
        if after_write:
            flags |= AFTER_WRITE
        if spec is VERSIONS:
            flags |= WATCH_VERSIONS
        frame.forwards.append((request, shard, flags, db, args))

    def under_way(self, shard: int) -> bool:
        """Other nodes have commands for the shard."""
        return any(lane.count for lane in self.lanes.get(shard, {}).values())

    def draining(self, shard: int, leader: int) -> bool:
        """`leader` is refusing what was sent to it, and this node has not heard of everything yet."""
        lane = self.lanes.get(shard, {}).get(leader)
        return lane is not None and lane.refused and lane.count > 0

    def owners_behind(self, shard: int, leader: int) -> dict[Any, int]:
        """The sessions of which commands for the shard are under way to another node than `leader`."""
        known = self.behind.get(shard)
        if known is not None and known[0] == leader:
            return known[1]
        owners: dict[Any, int] = {}
        if any(lane.count for peer, lane in self.lanes.get(shard, {}).items() if peer != leader):
            for sent in self.sent.values():
                if sent.shard == shard and sent.peer != leader:
                    owner = owner_of(sent.item)
                    owners[owner] = owners.get(owner, 0) + 1
            self.behind[shard] = (leader, owners)
        return owners

    def waits(self, shard: int, leader: int, item: Item) -> bool:
        """The item must not be sent to `leader`, or run here if that is this node, yet."""
        for peer, lane in self.lanes.get(shard, {}).items():
            if lane.count and (peer != leader or lane.refused):
                break
        else:
            return False
        if self.draining(shard, leader):
            return True
        owners = self.owners_behind(shard, leader)
        return bool(owners) and owner_of(item) in owners

    def _take(self, request: int) -> Sent | None:
        """What was sent, which has its answer now."""
        known = self.sent.pop(request, None)
        if known is not None:
            known.lane.count -= 1
            if self.behind and known.shard in self.behind:
                leader, owners = self.behind[known.shard]
                if leader != known.peer:
                    owner = owner_of(known.item)
                    owners[owner] -= 1
                    if not owners[owner]:
                        del owners[owner]
                        if not owners:
                            del self.behind[known.shard]
        return known

    # As the leader's node

    def received(self, peer: int, frame: Frame) -> None:
        """Run what `peer` forwarded."""
        origin = self.origins.get(peer)
        if origin is None:
            origin = self.origins[peer] = RemoteOrigin(self.network, peer)
        for request, shard, flags, db, args in frame.forwards:
            if not origin.accepts(shard, flags >> GENERATION_SHIFT):
                origin.refuse(request, shard, self.network.leader_of(shard))
                continue
            if flags & TRANSACTION and args:
                self._received_transaction(origin, decode_transaction(args[0]))
                continue
            spec = VERSIONS if flags & WATCH_VERSIONS else find(args[0]) if args else None
            known = 0 <= db < DATABASES or (db == META_DB and spec is CHANGE)
            if spec is None or not known:
                origin.deliver(request, resp.error("ERR this node does not know that command"))
                continue
            item = (origin, request, spec, args, db, 3 if flags & PROTO3 else 2)
            self._receive(origin, shard, item, bool(flags & AFTER_WRITE))

    def _received_transaction(self, origin: RemoteOrigin, message: TransactionForward) -> None:
        commands: list[tuple[int, Spec, list[bytes]]] = []
        for db, args in message.commands:
            spec = find(args[0]) if args else None
            if spec is None or not 0 <= db < DATABASES:
                text = "EXECABORT this node does not know one of the commands"
                origin.deliver(message.request, resp.error(text))
                return
            commands.append((db, spec, args))
        if not all(0 <= db < DATABASES for db, _, _ in message.watched):
            origin.deliver(message.request, resp.error("EXECABORT there is no such database"))
            return
        transaction = Transaction(message.watched, commands)
        item = (origin, message.request, EXEC, transaction, 0, message.proto)
        self._receive(origin, message.shard, item, True)

    def _receive(self, origin: RemoteOrigin, shard: int, item: Item, after_write: bool) -> None:
        try:
            accepted = self.network.receive(shard, item, after_write)
        except Overloaded:
            origin.deliver(item[1], _BUSY)
            return
        if not accepted:
            origin.refuse(item[1], shard, self.network.leader_of(shard))

    # As the entry node

    def answered(self, frame: Frame) -> list[tuple[int, int]]:
        """Take the replies in `frame`; returns (shard, leader hint) of what was refused."""
        take = self._take
        answer = self.network.answer
        for request, reply in frame.replies:
            known = take(request)
            if known is not None:
                answer(known.shard, known.item, reply)
            elif request < 0:
                self._part(-request, reply)
        hints = []
        for request, leader in frame.refused:
            known = take(request)
            if known is not None:
                known.lane.refused = True
                hints.append((known.shard, leader))
                self.network.redispatch(known.shard, known.item, known.until_us)
        return hints

    def _part(self, request: int, part: bytes) -> None:
        sent = self.sent.get(request)
        if sent is None:
            return
        if part:
            sent.parts = sent.parts or []
            sent.parts.append(part)
            return
        self._take(request)
        if sent.parts:
            reply = b"".join(sent.parts)
        else:
            reply = _TOO_LARGE_APPLIED if sent.item[2].write else _TOO_LARGE
        self.network.answer(sent.shard, sent.item, reply)

    def lost(self, peer: int) -> None:
        """The connection to `peer` broke: nothing sent there will be answered."""
        self._give_up([request for request, sent in self.sent.items() if sent.peer == peer])

    def leader_changed(self, shard: int, leader: int, now_us: int) -> None:
        """Reads that an older leader has not answered are asked of the new one. Its writes, and reads
        with a write behind them, are given two more election time-outs: a leader that handed over answers
        at once, one that is cut off never will, and meanwhile all that their sessions send waits."""
        older = [
            request
            for request, sent in self.sent.items()
            if sent.shard == shard and sent.peer != leader
        ]
        kept = self._ask_again(older)
        if leader and kept:
            grace_us = 2 * self.network.config.election_timeout_us
            self.hastened.append((now_us + grace_us, kept))

    def expire(self, now_us: int) -> None:
        """Stop waiting for answers that are overdue."""
        overdue: list[int] = []
        while self.hastened and self.hastened[0][0] <= now_us:
            overdue += self.hastened.pop(0)[1]
        for request, sent in self.sent.items():
            if sent.deadline_us > now_us:
                break
            overdue.append(request)
        if overdue:
            self._give_up(overdue)

    def _give_up(self, requests: list[int]) -> None:
        for request in self._ask_again(requests):
            known = self._take(request)
            if known is not None:
                self.network.unknown(known.shard, known.item)

    def _ask_again(self, requests: list[int]) -> list[int]:
        """Reads among `requests` are asked again, unless a write of their session is under way behind
        them; returns the others."""
        last: dict[tuple[int, Any], int] = {}
        for request, sent in self.sent.items():
            if sent.item[2].write:
                last[sent.shard, owner_of(sent.item)] = request
        others = []
        for request in requests:
            known = self.sent.get(request)
            if known is None:
                continue
            if request <= last.get((known.shard, owner_of(known.item)), 0):
                others.append(request)
                continue
            self._take(request)
            self.network.redispatch(known.shard, known.item, known.until_us)
        return others
