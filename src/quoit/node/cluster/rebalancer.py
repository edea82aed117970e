"""Keeping the replicas where they shall be: runs on every node, and works where the meta shard is led.

There it gathers what the shards' leaders report, lets decide.py judge, proposes the change, and asks the
shards' leaders for the operations. It keeps nothing that a successor would need: what was done shows
in the members, what is being done in the reports.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from quoit.base.seams import Trace
from quoit.node.cluster import decide
from quoit.node.cluster.asking import Network as OperationsNetwork
from quoit.node.cluster.asking import Operations
from quoit.node.cluster.changes import Change
from quoit.node.cluster.messages import (
    Ask,
    Load,
    NodeReport,
    OperationAsk,
    OperationTold,
    ShardReport,
)
from quoit.node.cluster.observed import Observed, ShardSeen
from quoit.node.cluster.reports import EVERY_US, Reports
from quoit.node.cluster.reports import Network as ReportsNetwork
from quoit.node.cluster.state import META_SHARD, ClusterState
from quoit.node.liveness import Liveness
from quoit.node.messages import Frame

__all__ = ["Cluster", "Network", "Rebalancer"]

_LOOK_US = 100_000
_AGAIN_US = 1_000_000
_GRACE_US = 10_000_000
"""A shard of which nobody has told anything for so long has no leader."""
_SOON_US = 300_000
_BAR_US = 5_000_000
_BAR_US_MAX = 60_000_000
_COOLED_US = 60_000_000
_COOL_EVERY_US = 10_000_000
_ENDS = ("done", "handed-over", "interrupted", "not-leader", "changed", "busy", "refused", "failed")


class Cluster(Protocol):
    """The cluster's record on this node (meta.py)."""

    @property
    def state(self) -> ClusterState:
        """This node's copy."""
        ...

    @property
    def leads(self) -> bool:
        """This node leads the meta shard and may run things."""
        ...

    def propose(self, change: Change, done: Callable[[str], None]) -> object:
        """`done("")`: applied; `done("unknown")`: perhaps; else why not. Called once, later."""
        ...


class Network(OperationsNetwork, ReportsNetwork, Protocol):
    """What the rebalancer asks of its node."""

    @property
    def cluster(self) -> Cluster:
        """The record."""
        ...

    connected: dict[int, int]
    trace: Trace
    liveness: Liveness

    def outgoing(self, peer: int) -> Frame:
        """The frame being filled for `peer`."""
        ...


class Heard(msgspec.Struct):
    """A shard's newest report, from whom, and when."""

    report: ShardReport
    peer: int
    at_us: int


class Asking(msgspec.Struct):
    """An operation that was asked for. told: the newest answer."""

    id: int
    ask: Ask
    sent_us: int
    told: OperationTold | None = None


class Bar(msgspec.Struct):
    """Why a shard is not asked before `until_us`; wait_us: how long next time, if it fails again."""

    reason: str
    until_us: int
    wait_us: int


class Rebalancer:
    """See the module's docstring.

    operations, reports  the end of a shard's leader
    lost       node -> since when it has been unreachable

    The rest belongs to one leadership of the meta shard:

    heard      shard -> its newest report
    loads      node -> (how it is, when it said so)
    hot        node -> since when it has been saturated
    asking     shard -> what was asked for
    bars       shard -> why it is not asked now
    missing    shard -> since when nothing has been heard of it
    cooled     shard -> when its preferred leader was changed
    why        what holds up the job, for people
    job        number of the job to which `base` and `moved` belong: bytes before, and since, this
               node led the meta shard
    proposing  a change is under way
    """

    def __init__(self, network: Network, own: int, first_id: int) -> None:
        self.network = network
        self.own = own
        self.next_id = first_id
        self.operations = Operations(network, self._say)
        self.reports = Reports(network, self.operations)
        self.leading = False
        self.report_us = 0
        self.reported_to = 0
        self.lost: dict[int, int] = {}
        self.epoch = 0
        self._begin_anew(0)

    def _begin_anew(self, now_us: int) -> None:
        self.heard: dict[int, Heard] = {}
        self.loads: dict[int, tuple[Load, int]] = {}
        self.hot: dict[int, int] = {}
        self.asking: dict[int, Asking] = {}
        self.bars: dict[int, Bar] = {}
        self.missing: dict[int, int] = {}
        self.cooled: dict[int, int] = {}
        self.why: list[str] = []
        self.job = self.base = self.moved = 0
        self.proposing = False
        self.next_propose_us = self.look_us = self.next_cool_us = 0
        self.changed_us = now_us
        self.epoch = self.epoch + 1

    # Every node

    def tick(self, now_us: int) -> None:
        """Time passed. Called once each tick of the node."""
        self.reports.tick(now_us)
        ended = self.operations.tick()
        to = self.network.leader_of(META_SHARD)
        if now_us >= self.report_us:
            self.report_us = now_us + EVERY_US
            self.reports.measure(now_us)
            self._watch_nodes(now_us)
            self._report(to)
        elif ended or to != self.reported_to:
            self._report(to)
        self.operations.tell_ended(ended)
        leads = self.network.cluster.leads
        if leads != self.leading:
            self.leading = leads
            self._begin_anew(now_us)
            if leads:
                self._report(self.own)
        if leads and now_us >= self.look_us:
            self.look_us = now_us + _LOOK_US
            self._look(now_us)

    def _watch_nodes(self, now_us: int) -> None:
        network = self.network
        state = network.cluster.state
        for node in state.nodes:
            if node.id != self.own and network.liveness.is_away(node.id):
                self.lost.setdefault(node.id, now_us)
            else:
                self.lost.pop(node.id, None)
        if state.nodes:
            network.snapshots.budget.bytes_per_s = state.settings.rebalance_bytes_per_s

    def _report(self, to: int) -> None:
        self.reported_to = to
        if to:
            self._say(to, self.reports.report())

    def _say(self, to: int, message: OperationAsk | OperationTold | NodeReport) -> None:
        if to == self.own:
            self.received(to, message, self.reports.ticked_us)
        elif to in self.network.connected:
            self.network.outgoing(to).other.append(message)

    def received(
        self, peer: int, message: OperationAsk | OperationTold | NodeReport, now_us: int
    ) -> None:
        """A message from `peer`, or from this node itself."""
        if isinstance(message, OperationAsk):
            self.operations.received(peer, message)
        elif not self.leading:
            return
        elif isinstance(message, NodeReport):
            self._take_report(peer, message, now_us)
        else:
            self._take_told(message, now_us)

    # The leader of the meta shard: hearing

    def _take_report(self, peer: int, report: NodeReport, now_us: int) -> None:
        self.loads[peer] = (report.load, now_us)
        limit = self.network.cluster.state.settings.rebalance_latency_ms * 1000
        if report.load.worst_us > limit:
            self.hot.setdefault(peer, now_us)
        elif 2 * report.load.worst_us < limit:
            self.hot.pop(peer, None)
        for one in report.shards:
            known = self.heard.get(one.shard)
            if known is not None:
                before = known.report
                if (one.term, one.index) < (before.term, before.index):
                    continue
                if (one.members, one.operation) != (before.members, before.operation):
                    self.changed_us = now_us
            self.heard[one.shard] = Heard(one, peer, now_us)

    def _take_told(self, told: OperationTold, now_us: int) -> None:
        asking = self.asking.get(told.shard)
        if asking is None or asking.id != told.id:
            return
        asking.told = told
        if told.state not in _ENDS:
            return
        del self.asking[told.shard]
        self.changed_us = now_us
        self.moved += told.bytes
        self.look_us = 0
        self.network.trace(
            "rebalance_told", shard=told.shard, state=told.state, reason=told.reason
        )  # fmt: skip
        if told.state == "done":
            self.bars.pop(told.shard, None)
        elif told.state in ("refused", "failed"):
            last = self.bars.get(told.shard)
            wait = min(_BAR_US_MAX, 2 * last.wait_us) if last is not None else _BAR_US
            self.bars[told.shard] = Bar(told.reason or told.state, now_us + wait, wait)
        else:
            # Who leads and who the members are is told in a moment, by its leader.
            wait = self.bars[told.shard].wait_us if told.shard in self.bars else _BAR_US // 2
            self.bars[told.shard] = Bar(told.reason or told.state, now_us + _SOON_US, wait)

    # Looking

    def observed(self, now_us: int) -> Observed:
        """What this node sees as the leader of the meta shard; not `complete` elsewhere."""
        state = self.network.cluster.state
        shards = {}
        silent = set()
        for shard in (META_SHARD, *(one.id for one in state.shards)):
            heard = self.heard.get(shard)
            if heard is None:
                self.missing.setdefault(shard, now_us)
                silent.add(shard)
                continue
            self.missing.pop(shard, None)
            if now_us - heard.at_us > _GRACE_US:
                silent.add(shard)
            told = heard.report
            shards[shard] = ShardSeen(
                told.members, told.index, heard.peer, told.operation, told.keys, told.bytes,
                told.ops,
            )  # fmt: skip
        # A process that stands still keeps its connections.
        away = self.network.liveness.is_away
        up = [node for node in self.network.connected if not away(node)]
        connected = frozenset((*up, self.own))
        under_way = {shard: one.ask for shard, one in self.asking.items()}
        running = {
            shard: one.told for shard, one in self.asking.items() if one.told is not None
        }  # fmt: skip
        return Observed(
            complete=self.leading
            and all(now_us - since > _GRACE_US for since in self.missing.values()),
            shards=shards,
            silent=frozenset(silent),
            loads={
                node: load for node, (load, at) in self.loads.items() if now_us - at < _GRACE_US
            },
            connected=connected,
            away_us={node: now_us - since for node, since in self.lost.items()},
            hot_us={node: now_us - since for node, since in self.hot.items() if node in connected},
            asked=under_way,
            waits={shard: told.waits_for for shard, told in running.items() if told.waits_for},
            barred={shard: bar.reason for shard, bar in self.bars.items() if now_us < bar.until_us},
            quiet_us=0 if under_way else now_us - self.changed_us,
            moved=self._moved(state, sum(told.bytes for told in running.values())),
            cooled=frozenset(
                shard for shard, at in self.cooled.items() if now_us - at < _COOLED_US
            ),
            may_cool=now_us >= self.next_cool_us,
        )

    def _moved(self, state: ClusterState, running: int) -> int:
        job = state.running()
        number = job.id if job is not None else 0
        if number != self.job:
            self.job = number
            self.base = job.moved if job is not None else 0
            self.moved = 0
        return self.base + self.moved + running

    def _look(self, now_us: int) -> None:
        state = self.network.cluster.state
        found = decide.decide(state, self.observed(now_us))
        self.why = found.why
        if found.change is not None and not self.proposing and now_us >= self.next_propose_us:
            self._propose(found.change, now_us)
            if found.cooled >= 0:
                self.cooled[found.cooled] = now_us
                self.next_cool_us = now_us + _COOL_EVERY_US
        for ask in found.requests:
            self.next_id += 1
            asking = self.asking[ask.shard] = Asking(self.next_id, ask, now_us)
            self.network.trace(
                "rebalance_asks", shard=ask.shard, kind=ask.kind, node=ask.node, source=ask.source
            )
            self._ask(asking, now_us)
        for asking in list(self.asking.values()):
            if now_us - asking.sent_us >= _AGAIN_US:
                self._ask(asking, now_us)

    def _ask(self, asking: Asking, now_us: int) -> None:
        asking.sent_us = now_us
        heard = self.heard.get(asking.ask.shard)
        if heard is not None:
            self._say(heard.peer, OperationAsk(asking.id, asking.ask))

    def _propose(self, change: Change, now_us: int) -> None:
        epoch = self.epoch
        self.proposing = True
        # If it is refused, or nobody knows, the state is looked at again, not the same change sent.
        self.next_propose_us = now_us + _AGAIN_US

        def done(outcome: str) -> None:
            if self.epoch != epoch:
                return
            self.proposing = False
            if not outcome:
                self.next_propose_us = self.look_us = 0
            else:
                self.network.trace("rebalance_refused", reason=outcome)

        self.network.cluster.propose(change, done)
