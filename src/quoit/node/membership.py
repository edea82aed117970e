"""Changing who keeps a shard, by hand: adding, removing and moving replicas, choosing the leader.

An operation is a list of steps, each of which changes one member (Raft changes one voter at a time) and
is finished when what was agreed on says so. It runs on the shard's leader, one a shard, and lives in
memory only: if the leader changes in the middle, it is reported as interrupted with what was done, and
asking for it again goes on from there, because steps that are done already are left out.

A node is added as a learner and votes only when it has nearly everything, so that the quorum does not
wait for it. A leader that is to leave hands over first.
"""

from typing import Protocol

import msgspec

from quoit.base.errors import BadRequest, NotLeader
from quoit.base.seams import Clock, Trace
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.dispatcher import Dispatcher
from quoit.node.lifecycle import Lifecycle
from quoit.node.messages import ReplicaAsk, ReplicaReply
from quoit.node.replica import Replica
from quoit.quorum.members import Members, quorums

__all__ = ["KINDS", "Membership", "Operation", "Plan", "Request", "Step", "steps_of"]

KINDS = ("add-replica", "remove-replica", "move", "leader")
_AWAY_US = 30_000_000
"""A step that waits for a node that is not connected gives up after so long."""
_ASK_US = 100_000
_HANDOVERS_MAX = 5

Step = tuple[str, int]
"""(learn, vote, lead or leave; node)."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for. `node`: the one that is added, removed or to lead; `source`: of a move,
    the one that loses its replica to `node`."""

    kind: str
    shard: int
    node: int
    source: int = 0


class Plan(msgspec.Struct):
    """What an operation would do. It can be begun only if nothing stands against it."""

    request: Request
    members: Members
    steps: list[Step]
    against: list[str]
    notes: list[str]


class Operation(msgspec.Struct):
    """An operation's progress. state: running, done, failed, interrupted (the leader changed),
    handed-over (ask `next`, which leads now, for the rest)."""

    id: int
    request: Request
    steps: list[Step]
    term: int
    state: str = "running"
    step: int = 0
    """Number of steps that are finished."""
    waits_for: str = ""
    reason: str = ""
    """Why it ended, unless it is done."""
    next: int = 0
    since_us: int = 0
    """When the present step began, or its node was last there."""
    asked_us: int = 0
    holds: int | None = None
    """What the node of this step said last: its applied index, -1 for no replica."""
    handovers: int = 0


def steps_of(request: Request, members: Members, leader: int) -> list[Step]:
    """What is left to do for `request`, given who the members are. BadRequest if it makes no sense."""
    kind, node = request.kind, request.node
    if kind == "leader":
        return [] if node == leader else [("lead", node)]
    if kind == "add-replica":
        return _adding(node, members)
    if kind == "remove-replica":
        heirs = [voter for voter in members.voters if voter != node]
        first = [("lead", heirs[0])] if node == leader and heirs else []
        return [*first, ("leave", node)] if node in members.everyone else []
    if kind == "move":
        steps = _adding(node, members)
        if request.source in members.everyone:
            if request.source == leader:
                steps.append(("lead", node))
            steps.append(("leave", request.source))
        return steps
    raise BadRequest(f"there is no operation {kind!r}; there are: {', '.join(KINDS)}")


def _adding(node: int, members: Members) -> list[Step]:
    if node in members.voters:
        return []
    return [("vote", node)] if node in members.learners else [("learn", node), ("vote", node)]


class Network(Protocol):
    """What operations ask of their node."""

    config: NodeConfig
    clock: Clock
    dispatcher: Dispatcher
    lifecycle: Lifecycle
    trace: Trace

    @property
    def replication_factor(self) -> int:
        """How many replicas a shard shall have."""
        ...

    @property
    def nodes(self) -> dict[int, PeerInfo]:
        """All nodes that this one knows, itself included."""
        ...


class Membership:
    """operations  shard -> the newest operation that was begun here"""

    __slots__ = ("network", "next_id", "operations")

    def __init__(self, network: Network, first_id: int) -> None:
        self.network = network
        self.next_id = first_id
        self.operations: dict[int, Operation] = {}

    # Asking

    def plan(self, request: Request) -> Plan:
        """What `request` would do now, and what stands against it. NotLeader: ask there."""
        network = self.network
        replica = self._led(request.shard)
        members = replica.state.members or replica.core.members
        if request.kind not in KINDS:
            raise BadRequest(
                f"there is no operation {request.kind!r}; there are: {', '.join(KINDS)}"
            )
        plan = Plan(request, members, [], [], [])
        for node in (request.node, request.source):
            if node and node not in network.nodes:
                known = " ".join(str(one) for one in sorted(network.nodes))
                plan.against.append(f"there is no node {node}; the cluster has {known}")
        if not plan.against:
            plan.steps = steps_of(request, members, network.config.node_id)
            self._judge(plan, replica)
        running = self.operations.get(request.shard)
        if running is not None and running.state == "running":
            plan.against.append(f"an operation on shard {request.shard} is under way; wait for it")
        return plan

    def _judge(self, plan: Plan, replica: Replica) -> None:
        request, members, against = plan.request, plan.members, plan.against
        node, kind = request.node, request.kind
        up = {*self.network.dispatcher.connected, self.network.config.node_id}
        # A move that ended half-way has left one more, and may be finished.
        few = len(members.voters) <= self.network.replication_factor
        if kind == "add-replica" and node in members.voters:
            against.append(f"node {node} is a member already")
        elif kind == "remove-replica" and node not in members.everyone:
            against.append(f"node {node} is not a member")
        elif kind == "move" and not plan.steps:
            against.append(f"node {node} is a member already, and node {request.source} is none")
        elif kind == "move" and node == request.source:
            against.append("a replica cannot be moved to where it is")
        elif kind == "move" and request.source not in members.everyone:
            against.append(f"node {request.source} is not a member")
        elif kind == "move" and node in members.voters and few:
            against.append(
                f"node {node} is a member already; for fewer replicas, use remove-replica of "
                f"node {request.source}"
            )
        elif kind == "leader" and node not in members.voters:
            against.append(f"node {node} does not vote here, so it cannot lead")
        elif kind == "leader" and not plan.steps:
            plan.notes.append(f"node {node} leads already")
        comes = [one for step, one in plan.steps if step != "leave"]
        against += [f"node {one} is not connected" for one in dict.fromkeys(comes) if one not in up]
        self._judge_quorum(plan, up)
        if replica.core.damaged:
            against.append("the leader's disk is damaged")

    def _judge_quorum(self, plan: Plan, up: set[int]) -> None:
        voters = set(plan.members.voters)
        before = len(voters)
        for step, node in plan.steps:
            if step == "vote":
                voters.add(node)
            elif step == "leave":
                voters.discard(node)
            else:
                continue
            if not voters:
                plan.against.append(f"node {node} is the only voter; add another one first")
                return
            need = quorums(self.network.config.quorum, len(voters)).write
            there = len(voters & up)
            if there < need:
                plan.against.append(
                    f"it would lose the quorum: {len(voters)} voters, {need} needed, {there} connected"
                )
                return
        if len(voters) < before:
            spare = len(voters) - quorums(self.network.config.quorum, len(voters)).write
            plan.notes.append(
                f"{len(voters)} voter{'s' * (len(voters) != 1)} stay; {spare} of them may fail"
            )

    def begin(self, request: Request) -> Operation:
        """Begin. BadRequest with what stands against it; NotLeader: ask there."""
        plan = self.plan(request)
        if plan.against:
            raise BadRequest("; ".join(plan.against))
        self.next_id += 1
        now = self.network.clock.now_us()
        term = self._led(request.shard).core.term
        operation = Operation(self.next_id, request, plan.steps, term, since_us=now)
        self.operations[request.shard] = operation
        self.network.trace("operation_begins", shard=request.shard, kind=request.kind)
        self._advance(operation, now)
        return operation

    def _led(self, shard: int) -> Replica:
        replica = self.network.dispatcher.serving.get(shard)
        # Between turns `serving` may name a replica that has just stepped down.
        if replica is None or not replica.core.is_leader:
            leader = self.network.dispatcher.leader_of(shard)
            raise NotLeader(leader if leader != self.network.config.node_id else 0)
        return replica

    # Doing

    def tick(self, now_us: int) -> None:
        """Go on with what can go on."""
        for operation in self.operations.values():
            if operation.state == "running":
                self._advance(operation, now_us)

    def _advance(self, operation: Operation, now_us: int) -> None:
        shard = operation.request.shard
        replica = self.network.dispatcher.serving.get(shard)
        if replica is None or not replica.core.is_leader or replica.core.term != operation.term:
            self._leader_changed(operation, now_us)
            return
        members = replica.state.members or replica.core.members
        while operation.step < len(operation.steps):
            step = operation.steps[operation.step]
            if not self._finished(step, members):
                break
            operation.step += 1
            operation.since_us = now_us
            operation.waits_for = ""
            operation.holds = None
        else:
            self._end(operation, "done")
            return
        if replica.core.members != members:
            operation.waits_for = "agreement on the change"
            return
        try:
            self._try(operation, replica, members, now_us)
        except (BadRequest, NotLeader) as error:
            operation.waits_for = str(error)

    def _finished(self, step: Step, members: Members) -> bool:
        what, node = step
        if what == "learn":
            return node in members.everyone
        if what == "vote":
            return node in members.voters
        if what == "leave":
            return node not in members.everyone
        return node == self.network.config.node_id

    def _try(self, operation: Operation, replica: Replica, members: Members, now_us: int) -> None:
        what, node = operation.steps[operation.step]
        core = replica.core
        there = node in self.network.dispatcher.connected or node == self.network.config.node_id
        if what != "leave":
            if there:
                operation.since_us = now_us if what != "lead" else operation.since_us
            elif now_us - operation.since_us > _AWAY_US:
                self._end(operation, "failed", f"node {node} is not connected")
                return
            else:
                operation.waits_for = f"node {node}, which is not connected"
                return
        if what == "learn":
            # An earlier replica's acknowledgements, still on their way, would count for the new one:
            # the node says behind them that it has none.
            operation.waits_for = f"node {node} to give up an earlier replica"
            if operation.holds == -1:
                core.change(members.with_learner(node), now_us)
        elif what == "vote":
            operation.waits_for = f"node {node} to catch up"
            holds = operation.holds
            if holds is not None and holds >= replica.state.config_index and core.keeps_up(node):
                core.change(members.with_voter(node), now_us)
        elif what == "leave":
            operation.waits_for = ""
            core.change(members.without(node), now_us)
        elif not core.transfer_to:
            self._hand_over(operation, replica, node, now_us)
        if what in ("learn", "vote"):
            self._ask(operation, node, now_us)

    def _hand_over(self, operation: Operation, replica: Replica, node: int, now_us: int) -> None:
        operation.waits_for = f"node {node} to take over"
        if operation.handovers >= _HANDOVERS_MAX:
            self._end(operation, "failed", f"node {node} did not take over in time")
        elif replica.core.keeps_up(node):
            operation.handovers += 1
            replica.core.transfer(node, now_us)

    def _leader_changed(self, operation: Operation, now_us: int) -> None:
        shard = operation.request.shard
        leader = self.network.dispatcher.leader_of(shard)
        what, node = operation.steps[operation.step] if operation.steps else ("", 0)
        if what == "lead" and leader == node:
            operation.step += 1
            rest = operation.step < len(operation.steps)
            operation.next = node if rest else 0
            self._end(operation, "handed-over" if rest else "done")
        elif what == "lead" and not leader and now_us - operation.since_us < _AWAY_US:
            operation.waits_for = f"node {node} to take over"
        else:
            operation.next = leader
            self._end(operation, "interrupted", "the shard's leader changed; ask for it again")

    def _end(self, operation: Operation, state: str, reason: str = "") -> None:
        operation.state, operation.reason, operation.waits_for = state, reason, ""
        self.network.trace(
            "operation_ends", shard=operation.request.shard, state=state, reason=reason
        )

    # What the node of a step has

    def _ask(self, operation: Operation, node: int, now_us: int) -> None:
        if now_us - operation.asked_us >= _ASK_US:
            operation.asked_us = now_us
            ask = ReplicaAsk(operation.request.shard, operation.id)
            self.network.dispatcher.outgoing(node).other.append(ask)

    def asked(self, peer: int, ask: ReplicaAsk) -> None:
        """`peer` wants to make this node a member."""
        replica = self.network.dispatcher.replicas.get(ask.shard)
        applied = -1 if replica is None else replica.state.applied_index
        reply = ReplicaReply(ask.shard, ask.operation, applied)
        self.network.dispatcher.outgoing(peer).other.append(reply)

    def answered(self, peer: int, reply: ReplicaReply) -> None:
        """A node's answer."""
        operation = self.operations.get(reply.shard)
        if operation is None or operation.id != reply.operation or operation.state != "running":
            return
        if operation.steps[operation.step][1] == peer:
            operation.holds = reply.applied
