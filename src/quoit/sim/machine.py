"""One simulated machine: a node's process, its disk, its engine and its clock.

The process does what runtime/driver.py does: it hands inputs to the node, has one turn for all that
arrived together, and carries out the turn's effects. It can be paused, starved, killed and started
again; the machine under it can lose its power.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec

from quoit.base.errors import BadRequest, DiskFault, Diverged, EngineDamaged, NotLeader, WorldFault
from quoit.data.keys import physical_key
from quoit.data.record import decode_record
from quoit.node.cluster.state import ClusterState
from quoit.node.config import NodeConfig
from quoit.node.membership import Request
from quoit.node.node import Node
from quoit.node.replica import Replica
from quoit.quorum.agreement import Ready
from quoit.sim.clock import NodeClock
from quoit.sim.crash_points import CrashHere, CrashPoints, WatchedEngine, points_of
from quoit.sim.disk import SimDisk
from quoit.sim.engine import SimEngine
from quoit.sim.host import Host
from quoit.sim.meeting import recall, remember
from quoit.sim.options import stream
from quoit.sim.workload import Client
from quoit.storage.api import Group, Recovery
from quoit.storage.buffered import BufferedEngine
from quoit.storage.log import Log, Write

__all__ = ["TURN_US", "Machine"]

REMEMBER_US = 100_000
"""How often what peers said is written down."""
TURN_US = 30
"""How long after an input a node has its turn."""
_START_AGAIN_US = 400_000
"""How long a process takes to start itself again."""


class WatchedNode(Node):
    """The node as it ships; its world sees each Ready before it is carried out."""

    machine: "Machine"

    def _take(self, replica: Replica, ready: Ready, groups: list[Group]) -> None:
        self.machine.world.took(self.machine, replica, ready)
        super()._take(replica, ready, groups)


class Machine:
    """See the module's docstring.

    life        number of the process, counted from 1; 0: never started
    node        None while no process runs
    paused      why the process stands still, or ""; what arrives waits in `inbox`
    ahead       shard -> applied index of earlier lives: up to there, what a crash left in the engine may
                be newer than the applied index beside it (storage/buffered.py)
    writing     the log write that the disk works on, or None
    turn_us     how long a turn takes to begin after something arrived
    hang_until  the disk answers nothing before this
    clients     that sent something to this process
    unsound     its disk was damaged, and is not durably whole again
    directory   the number of what is on its disk
    retired     why no process shall run here, or ""
    record      the copy of the cluster's record on the disk
    lied        its disk lost what it had called synced: the others may have to refuse it
    restored    its disk was emptied or put back to an older copy: the others must refuse it
    """

    def __init__(self, world: Host, number: int, clock: NodeClock) -> None:
        self.world = world
        self.id = number
        self.clock = clock
        self.rng = stream(world.options.seed, f"machine/{number}")
        self.disk = SimDisk(stream(world.options.seed, f"disk/{number}"))
        self.disk.on_fault = world.hit
        self.unsound = False
        self.directory = self.rng.randrange(1, 1 << 40)
        self.restored = False
        self.retired = ""
        self.record: ClusterState | None = None
        self.lied = False
        self.remember_us = 0
        self.crashes = CrashPoints(self._crashing)
        self.disk.on_step = self.crashes.disk_step
        self.engine = SimEngine()
        self.buffered = BufferedEngine(self.engine, 0, 0)
        self.log: Log | None = None
        self.node: WatchedNode | None = None
        self.ahead: dict[int, int] = {}
        self.life = 0
        self.paused = ""
        self.inbox: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.writing: Write | None = None
        self.turn_us = TURN_US
        self.turn_due = False
        self.tick_due_us = -1
        self.disk_us = world.options.disk_us
        self.hang_until = 0
        self.clients: dict[int, Client] = {}
        self.recovery: Recovery | None = None

    def value(self, db: int, key: bytes) -> bytes | None:
        """What the engine holds for a user's string, asked past the node."""
        raw = self.buffered.get(physical_key(db, key))
        return decode_record(raw).payload if raw is not None else None

    # The process

    def start(self, config: NodeConfig) -> None:
        """A new process opens the disk and begins."""
        if self.node is not None:
            return
        self.life += 1
        self.paused = ""
        self.inbox = []
        self.writing = None
        self.turn_due = False
        self.tick_due_us = -1
        self.clock.reboot(self.rng.randrange(1, 1 << 40))
        remembered = recall(self)
        if remembered.refused:
            self.world.note(self.id, "start_refused", reason=remembered.refused)
            return
        config = msgspec.structs.replace(config, directory=self.directory)
        try:
            self.crashes.phase = "boot"
            self.log, recovery = self._open_log()
            self.recovery = recovery
            self.buffered = WatchedEngine(self.engine, 2000, 4000)
            self.buffered.points = self.crashes
            node = WatchedNode(
                config, self.clock, self.rng, self.buffered, self.log, recovery, self._trace,
                remembered.marks, self.record,
            )  # fmt: skip
        except EngineDamaged as error:
            self._set_aside(str(error))
            return
        except (DiskFault, CrashHere) as error:
            self.world.note(self.id, "start_failed", error=str(error))
            if isinstance(error, CrashHere):
                self.disk.crash(torn=True)
            return
        except Exception as error:
            self.world.broken(self, error)
            return
        node.machine = self
        self.node = node
        self.world.note(self.id, "start", life=self.life, damaged=recovery.damaged)
        self.world.started(self)
        self._arm()
        self._want_turn()

    def _open_log(self) -> tuple[Log, Recovery]:
        size = self.world.options.segment_bytes
        return Log.open(self.disk, segment_bytes=size) if size else Log.open(self.disk)

    def _trace(self, event: str, /, **facts: object) -> None:
        self.world.note(self.id, event, **facts)
        # The node says who leads a shard under the name that cores use for becoming leader.
        self.world.saw("leader_known" if event == "leader" and "leader" in facts else event)
        if event == "snapshot_installed":
            self.crashes.reach("snapshot installed")

    def _crashing(self, point: str) -> None:
        self.world.hit("crash_point")
        self.world.saw(f"crash {point}")
        self.world.note(self.id, "crash_point", point=point)

    def replace_engine(self, engine: SimEngine) -> None:
        """Another engine, and no process to mind it."""
        self.engine = engine
        self.buffered = BufferedEngine(engine, 0, 0)
        self.ahead = {}

    def scrub(self) -> None:
        """Somebody reads all that is in the engine."""
        if self.engine.damaged:
            self._set_aside("all was read")

    def _set_aside(self, reason: str) -> None:
        """What runtime/quarantine.py does about a damaged engine: an empty one takes its place, and the
        process starts itself again."""
        self.world.saw("engine_set_aside")
        self.world.note(self.id, "engine_set_aside", reason=reason)
        self.stop(power=False, reason="engine damaged")
        self.replace_engine(SimEngine())
        self.world.after(_START_AGAIN_US, self.world.start, self.id)

    def count_up(self) -> None:
        """Tell what the process has counted so far; it ends, or the run does."""
        if self.node is not None:
            for name, count in self.node.counters.items():
                self.world.saw(name, count)
                self.node.counters[name] = 0

    def stop(self, *, power: bool, reason: str) -> None:
        """The process ends at once; `power`: the machine too, so what was not synced is lost."""
        if self.node is None:
            return
        self.world.note(self.id, "stop", power=power, reason=reason)
        self.count_up()
        for shard, replica in self.node.replicas.items():
            self.ahead[shard] = max(self.ahead.get(shard, 0), replica.state.applied_index)
        if self.node.cluster.changed and self.rng.random() < 0.5:
            self.record = self.node.cluster.state
        self.node = None
        write, self.writing = self.writing, None
        self._leave_disk(write, power=power)
        self.log = None
        self.engine = self.engine.after_crash(self.rng)
        self.buffered = BufferedEngine(self.engine, 0, 0)
        self.inbox = []
        self.paused = ""
        clients, self.clients = self.clients, {}
        self.world.died(self, told=not power)
        for client in clients.values():
            client.lost()

    def _leave_disk(self, write: Write | None, *, power: bool) -> None:
        """What becomes of the write under way, and of what was not synced."""
        if write is not None and self.log is not None:
            chance = self.rng.random()
            if chance < 0.66:
                # It reached the file; a third of the time its sync finished, too.
                if chance < 0.33:
                    self.disk.sync_error(times=1)
                self.disk.on_fault = _nothing_of
                armed, self.crashes.armed = self.crashes.armed, []
                with suppress(DiskFault):
                    self.log.commit(write)
                    if chance < 0.16:
                        self.log.note(write)
                self.disk.on_fault = self.world.hit
                self.crashes.armed = armed
        if power and self.disk.is_lying:
            self.lied = self.unsound = True
        self.disk.clear_faults()
        if power:
            self.disk.crash(torn=self.rng.random() < 0.7)
        else:
            self.disk.kill()

    def retire(self, reason: str) -> None:
        """The process ends, and none will run here any more."""
        self.retired = reason
        self.stop(power=False, reason=reason)

    def fail(self, reason: str) -> None:
        """The node stops itself because its disk failed."""
        self.stop(power=False, reason=reason)

    # Inputs

    def post(self, call: Callable[..., object], *args: Any) -> None:
        """Something arrives at the process: `call(*args)` gives it to the node."""
        if self.node is None:
            return
        if self.paused:
            self.world.hit(self.paused)
            self.inbox.append((call, args))
            return
        self._guarded(call, *args)
        self._want_turn()

    def frame(self, sender: int, payload: bytes) -> None:
        """A frame from a peer."""
        if self.node is not None:
            self.node.on_frame(sender, payload)

    @property
    def process(self) -> Node | None:
        """The node that runs here."""
        return self.node

    def peer(self, peer: int, connected: bool) -> None:
        """The connection to a peer was made or lost."""
        if self.node is not None:
            self.node.on_peer(peer, connected)
            remember(self)

    def client(self, client: Client, ticket: int) -> None:
        """A client's request, unless the client gave up waiting for it to be read."""
        if self.node is not None and client.ticket == ticket:
            self.clients[client.number] = client
            client.arrive(self.node, self.life)

    def hand_over(self) -> None:
        """An operator asks the node to give its leaderships away; it goes on running."""
        if self.node is not None:
            if self.node.serving:
                self.world.hit("transfer")
            self.node.begin_stop()
            self.node.stopping = False

    def change_members(self, request: Request) -> None:
        """An operator asks the node to change who keeps a shard; it may refuse."""
        if self.node is not None:
            with suppress(BadRequest, NotLeader):
                self.node.membership.begin(request)
                self.world.hit("members")

    def pause(self, kind: str = "pause") -> None:
        """The process stands still (SIGSTOP); its clock runs on."""
        if self.node is not None:
            self.paused = kind
            self.world.note(self.id, "pause", kind=kind)

    def resume(self) -> None:
        """It goes on: what waited arrives at once, before or after its timers."""
        if self.node is None or not self.paused:
            return
        self.paused = ""
        self.world.note(self.id, "resume", waiting=len(self.inbox))
        inbox, self.inbox = self.inbox, []
        tick_first = self.rng.random() < 0.5
        if tick_first:
            self._guarded(self._do_tick)
        for call, args in inbox:
            self._guarded(call, *args)
        if not tick_first:
            self._guarded(self._do_tick)
        self._want_turn()
        self._arm()

    def _guarded(self, call: Callable[..., object], *args: Any) -> None:
        if self.node is None:
            return
        try:
            call(*args)
        except Diverged as error:
            # No fault that the world makes excuses it.
            self.world.fail("correctness", "DIGEST", f"node {self.id}: {error}")
        except EngineDamaged as error:
            self._set_aside(str(error))
        except WorldFault as error:
            self.fail(str(error))
        except CrashHere as point:
            self._crash(str(point))
        except Exception as error:
            self.world.broken(self, error)

    def _crash(self, point: str) -> None:
        """The process, or with it the machine, ends at a crash point."""
        self.writing = None if self.crashes.phase else self.writing
        self.stop(power=self.rng.random() < 0.5, reason=point)

    # Turns

    def _want_turn(self) -> None:
        if not self.turn_due and self.node is not None:
            self.turn_due = True
            if self.turn_us > TURN_US:
                self.world.hit("slow")
            self.world.after(self.turn_us, self._turn_event, self.life)

    def _turn_event(self, life: int) -> None:
        if life != self.life or self.node is None:
            return
        self.turn_due = False
        if self.paused:
            self.inbox.append((_nothing, ()))
            return
        self._guarded(self._turn)

    def _turn(self) -> None:
        node = self.node
        if node is None:
            return
        effects = node.end_turn()
        if effects.write is not None:
            self._write(effects.write)
        world = self.world
        for peer, payload in effects.urgent:
            world.send(self.id, peer, payload, urgent=True)
        for peer, payload in effects.frames:
            world.send(self.id, peer, payload, urgent=False)
        for session, ticket, reply in effects.replies:
            session.sink.fill(ticket, reply)
        if effects.flush_engine:
            delay = self.rng.randrange(1_000, 100_000)
            self.crashes.reach("flush begin")
            count = self.engine.begin_flush()
            world.after(delay, self._flushed, self.life, count, effects.flush_engine)
        if world.options.check_each_turn:
            node.check()
        world.turned(self)
        if node.cluster.removed:
            self.retire("it was removed")

    def _write(self, write: Write) -> None:
        self.writing = write
        if self.disk_us > self.world.options.disk_us:
            self.world.hit("slow_disk")
        delay = 50 + int(self.rng.expovariate(1.0) * self.disk_us)
        self.world.after(delay, self._written, self.life, write)

    def _written(self, life: int, write: Write) -> None:
        if life != self.life or self.writing is not write or self.log is None:
            return
        if self.world.now_us < self.hang_until:
            self.world.hit("hang_disk")
            self.world.after(10_000, self._written, life, write)
            return
        self.writing = None
        failing = self.disk.sync_errors
        crashes = self.crashes
        try:
            for point in points_of(write, "before"):
                crashes.reach(point)
            crashes.phase = "commit"
            self.log.commit(write)
            crashes.phase = "note"
            self.log.note(write)
            for point in points_of(write, "after"):
                crashes.reach(point)
            crashes.reach("persisted")
        except DiskFault as error:
            # Fail-stop: nothing that this write covers is acknowledged, the sync is not repeated.
            self.fail(f"log write: {error}")
            return
        except CrashHere as point:
            self._crash(str(point))
            return
        finally:
            crashes.phase = ""
        if failing and self.disk.sync_errors < failing:
            self.world.fail(
                "correctness", "FAILSTOP", f"node {self.id} went on after a failed sync"
            )
        self.world.synced(self, write)
        if self.unsound:
            self.unsound = not self._whole()
        self.post(self._persisted, write)

    def _whole(self) -> bool:
        """Nothing on the disk is owed to earlier damage any more, and that is durable."""
        node, log = self.node, self.log
        if node is None or log is None or self.engine.damaged:
            return False
        for shard, replica in node.replicas.items():
            known = log._shards.get(shard)
            if replica.core.damaged or known is None or known.damaged is not None:
                return False
        return True

    def _persisted(self, write: Write) -> None:
        if self.node is not None:
            self.node.on_persisted(write)

    def _flushed(self, life: int, count: int, token: int) -> None:
        if life == self.life and self.node is not None:
            self.engine.end_flush(count)
            self._guarded(self.crashes.reach, "flush end")
            self.post(self._on_flushed, token)

    def _on_flushed(self, token: int) -> None:
        if self.node is not None:
            self.node.on_engine_flushed(token)

    def _do_tick(self) -> None:
        if self.node is not None:
            self.node.tick()
            if self.world.now_us >= self.remember_us:
                self.remember_us = self.world.now_us + REMEMBER_US
                remember(self)

    def _arm(self) -> None:
        """See to it that `tick` is called when the node wants it."""
        node = self.node
        if node is None:
            return
        due = max(self.clock.true_at(node.next_tick_us), self.world.now_us + 1)
        if self.tick_due_us < self.world.now_us or due < self.tick_due_us:
            self.tick_due_us = due
            self.world.after(due - self.world.now_us, self._tick_event, self.life, due)

    def _tick_event(self, life: int, due_us: int) -> None:
        if life != self.life or self.node is None or due_us != self.tick_due_us:
            return
        self.tick_due_us = -1
        if self.paused:
            return
        self.post(self._do_tick)
        self._arm()


def _nothing() -> None:
    """A turn that was due when the process was paused."""


def _nothing_of(kind: str) -> None:
    """A dying process' disk is no fault of its own."""
