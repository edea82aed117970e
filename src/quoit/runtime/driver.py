"""Runs one node: bytes and time in, the effects of each turn out. The only place where the pure node
meets asyncio.

A turn follows the callbacks of one pass of the event loop: all commands and frames that had arrived
are in the node by then, so they share one frame per peer, one log write and one engine write.
"""

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import structlog

from quoit import __version__
from quoit.base.errors import (
    BadRequest,
    DiskFault,
    EngineDamaged,
    PeerFault,
    QuoitError,
)
from quoit.node.cluster.state import ClusterState
from quoit.node.config import NodeConfig, PeerInfo
from quoit.node.node import Node
from quoit.node.replica import Replica
from quoit.node.standings import Standing
from quoit.runtime.directory import DirectoryLock
from quoit.runtime.disk import RealDisk
from quoit.runtime.log_thread import LogThread
from quoit.runtime.manifest import check_manifest
from quoit.runtime.nodes_file import read_view, view_of, write_view
from quoit.runtime.notes import Notes
from quoit.runtime.options import NodeOptions, PeerAddress, address_of, completed, info_of
from quoit.runtime.quarantine import HEALS, STAYS, Quarantine
from quoit.runtime.record_file import read_record
from quoit.runtime.seams import RealClock
from quoit.runtime.transport import Acceptor, Dialer
from quoit.storage.api import Engine
from quoit.storage.identity import Identity, claim
from quoit.storage.log import Log, Write
from quoit.storage.peer_marks import PeerMark, PeerMarks, read_peer_marks, write_peer_marks

__all__ = ["Driver"]

_BUFFER_BYTES = 64 * 1024 * 1024
_RECORDS_AT_ONCE = 10_000
_PART_S = 1.0
REMOVED_HELP = (
    "this node was removed from its cluster; to have the machine back in it, start it with an empty data "
    "directory and --join; what this one holds is of no use to the cluster any more"
)

_WARNINGS = frozenset(
    (
        "disk_hangs", "disk_answers", "disk_full", "disk_has_room", "command_failed",
        "peer_unreachable", "peer_live_again", "peer_dead", "peer_marked_dead", "peer_returned",
    )
)  # fmt: skip

logger = structlog.get_logger("quoit")


def _reason(error: Exception) -> str:
    if isinstance(error, QuoitError):
        return str(error)
    return (
        f"a bug in quoit, {type(error).__name__}: {error}; the node stops rather than go on with a "
        "state that it does not understand; start it again, and please report this with the log"
    )


def _is_whole(replica: Replica) -> bool:
    """It holds what its leader has, but for what is under way."""
    core = replica.core
    applied = replica.state.applied_index
    return bool(core.leader) and not core.damaged and 0 < core.commit_index <= applied


class Driver:
    """One node in this process.

    failed    resolves with a message when the node must stop itself (a failed sync, a broken
              invariant, damage): the owner ends the process, nothing more is acknowledged
    removed   resolves when the node is no part of the cluster any more: the owner stops it
    heals     when it failed, or could not start: the next start heals it, so begin that at once
    """

    node: Node
    log: Log
    log_thread: LogThread

    def __init__(self, options: NodeOptions) -> None:
        self.options = options
        self.dialers: dict[int, Dialer] = {}
        self.servers: list[asyncio.Server] = []
        self.client_servers: list[asyncio.Server] = []
        self.accepted: set[Acceptor] = set()
        self.heals = False
        self._scheduled = False
        self._stopped = False
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="quoit-engine")
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Open the data directory, recover, listen for peers and begin. DiskFault, Corruption or
        BadRequest when the directory cannot be used; see `heals`."""
        self.loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[str] = self.loop.create_future()
        self.removed: asyncio.Future[None] = self.loop.create_future()
        options = self.options
        self.clock = RealClock()
        self._lock = DirectoryLock(Path(options.data_dir))
        self.directory = RealDisk(options.data_dir)
        number = claim(
            self.directory,
            Identity(
                options.cluster_id,
                options.node_id,
                options.shards,
                options.replication_factor,
                options.agreement,
            ),
            random.SystemRandom().randrange(1, 1 << 48),
        )
        remembered = self._recall_peers()
        self._recall_nodes()
        record = read_record(self.directory)
        alone = min(len(options.peers), options.replication_factor) < 2
        self._quarantine = Quarantine(options.data_dir, alone=alone)
        self._quarantine.set_aside()
        try:
            self._recover(number, remembered, record)
        except EngineDamaged as error:
            self.heals = self._quarantine.found(error, self.clock.wall_ms())
            raise EngineDamaged(f"{error}{HEALS if self.heals else STAYS}") from error
        self.log_thread = LogThread(self.log, self.loop, self._persisted)
        server = await self.loop.create_server(
            lambda: Acceptor(self, self.accepted), options.host, options.peer_port
        )
        self.servers.append(server)
        for peer in options.peers:
            self.add_peer(peer)
        self._tick()

    def _recover(
        self, number: int, remembered: dict[int, PeerMark], record: ClusterState | None
    ) -> None:
        disk = RealDisk(str(Path(self.options.data_dir) / "log"))
        self.log, recovery = Log.open(disk)
        for note in recovery.notes:
            logger.warning("recovered", note=note)
        self.engine = self._open_engine()
        self.node = Node(
            self._config(number), self.clock, random.SystemRandom(), self.engine, self.log,
            recovery, self._trace, remembered, record,
        )  # fmt: skip
        self.node.rebuilding = self._quarantine.rebuilding
        self.notes = Notes(self.node, self.directory, self._executor, self.fail)
        if self.node.cluster.removed:
            raise BadRequest(f"{REMOVED_HELP}: {self.options.data_dir}")

    def _recall_peers(self) -> dict[int, PeerMark]:
        """How far the peers' logs were. BadRequest if they refused this node."""
        found = read_peer_marks(self.directory) or PeerMarks()
        if found.refused:
            raise BadRequest(f"the cluster refused this node: {found.refused}")
        return found.marks

    def _recall_nodes(self) -> None:
        """Nodes that joined since the start that `options.peers` describe, and who founded the cluster."""
        options = self.options
        view = read_view(self.directory)
        if view is not None:
            known = {peer.id: peer for peer in view.nodes}
            # Others told what the list of peers does not; of this node the settings say it.
            known.pop(options.node_id, None)
            given = [completed(peer, known.pop(peer.id, peer)) for peer in options.peers]
            options.peers = [*given, *known.values()]
            options.founders, options.founder_zones = view.founders, view.founder_zones
        elif not options.founders:
            # Fixed now: who joins later is a peer, and no founder.
            founders = sorted(options.peers, key=lambda peer: peer.id)
            options.founders = [peer.id for peer in founders]
            options.founder_zones = [peer.zone for peer in founders]
        write_view(self.directory, view_of(options))

    def add_peer(self, peer: PeerAddress) -> None:
        """Keep a connection to this node, from now on at this address."""
        if peer.id == self.options.node_id:
            return
        dialer = self.dialers.get(peer.id)
        if dialer is None:
            dialer = self.dialers[peer.id] = Dialer(self, peer)
            dialer.start()
        else:
            dialer.address = peer

    def _open_engine(self) -> Engine:
        if self.options.engine == "memory":
            from quoit.storage.memory import MemoryEngine

            return MemoryEngine()
        from quoit.storage.buffered import BufferedEngine
        from quoit.storage.engine import RocksEngine

        path = str(Path(self.options.data_dir) / "data")
        RealDisk(path)  # makes the directory so that it survives a power cut; RocksDB does not
        check_manifest(Path(path))
        engine = RocksEngine(path)
        return BufferedEngine(engine, self.options.cache_bytes, _BUFFER_BYTES)

    def _config(self, directory: int) -> NodeConfig:
        options = self.options
        nodes = tuple(
            info_of(peer, __version__ if peer.id == options.node_id else "")
            for peer in options.peers
        )
        return NodeConfig(
            node_id=options.node_id,
            directory=directory,
            cluster_id=options.cluster_id,
            nodes=nodes,
            founders=tuple(options.founders),
            founder_zones=tuple(options.founder_zones),
            shards=options.shards,
            consensus=options.consensus,
            quorum=options.quorum,
            replication_factor=options.replication_factor,
            election_timeout_us=options.election_timeout_us,
            heartbeat_us=options.heartbeat_us,
            lease_enabled=options.lease_enabled,
            drift_ppm=options.drift_ppm,
            digest_interval_us=options.digest_interval_us,
            dead_after_us=options.dead_after_us,
            suspect_phi=options.suspect_phi,
            version=__version__,
        )

    async def serve_clients(self, factory: Callable[["Driver"], Any], host: str, port: int) -> None:
        """Listen for clients; `factory` makes a connection object for each."""
        server = await self.loop.create_server(lambda: factory(self), host, port, backlog=4096)
        self.client_servers.append(server)

    # Turns

    def kick(self) -> None:
        """Something was given to the node: have a turn after this pass of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        try:
            effects = self.node.end_turn()
        except Exception as error:
            logger.error("node_failed", exc_info=not isinstance(error, QuoitError))
            self.fail(_reason(error), error)
            return
        if effects.write is not None:
            self.log_thread.submit(effects.write)
        for node in effects.nodes:
            self._meet(node)
        for number in effects.left:
            self._part(number)
        dialers = self.dialers
        for peer, payload in effects.urgent:
            dialers[peer].send(payload, urgent=True)
        for peer, payload in effects.frames:
            dialers[peer].send(payload)
        if effects.replies:
            touched = {}
            for session, ticket, reply in effects.replies:
                sink = session.sink
                sink.fill(ticket, reply)
                touched[session.id] = sink
            for sink in touched.values():
                sink.flush()
        if effects.flush_engine:
            self._flush(effects.flush_engine)

    def _meet(self, node: PeerInfo) -> None:
        peer = address_of(node)
        others = [one for one in self.options.peers if one.id != node.id]
        logger.info("node_known", node=node.id, name=node.name, host=node.host)
        self._save_nodes([*others, peer])
        self.add_peer(peer)

    def _part(self, number: int) -> None:
        logger.info("node_removed", node=number)
        self._save_nodes([one for one in self.options.peers if one.id != number])
        # Not before it has heard so itself.
        self.loop.call_later(_PART_S, self._hang_up, number)

    def _hang_up(self, number: int) -> None:
        dialer = self.dialers.pop(number, None)
        if dialer is not None and not self._stopped:
            self._guarded(self.node.on_peer, number, False)
            self.loop.create_task(dialer.stop())
            self.kick()

    def _save_nodes(self, peers: list[PeerAddress]) -> None:
        self.options.peers = peers
        try:
            write_view(self.directory, view_of(self.options))
        except DiskFault as error:
            # It is told again after a restart.
            logger.warning("nodes_not_saved", reason=str(error))

    def _flush(self, token: int) -> None:
        future = self.loop.run_in_executor(self._executor, self.engine.flush)

        def done(result: asyncio.Future[None]) -> None:
            if self._stopped:
                return
            error = result.exception()
            if error is not None:
                self.fail(f"the engine could not flush: {error}", error)
                return
            self.node.on_engine_flushed(token)
            self.kick()

        future.add_done_callback(done)

    def _persisted(self, write: Write, error: DiskFault | None) -> None:
        if self._stopped:
            return
        if error is not None:
            self.fail(str(error))
            return
        self._guarded(self.node.on_persisted, write)
        self._turn()

    def _tick(self) -> None:
        if self._stopped:
            return
        self._guarded(self.node.tick)
        if self.node.rebuilding and all(map(_is_whole, self.node.replicas.values())):
            self.node.rebuilding = ""
            self.loop.run_in_executor(self._executor, self._quarantine.release)
        self.notes.tick(self.loop.time())
        if self.node.cluster.removed and not self.removed.done():
            self.removed.set_result(None)
        self.kick()
        # What the node asks for: timers of a millisecond's resolution fire early, and a tick that came too
        # early for it would otherwise be one that came a whole tick late.
        left_us = self.node.next_tick_us - self.clock.now_us()
        self._timer = self.loop.call_later(max(left_us, 1_000) / 1e6, self._tick)

    def _guarded(self, step: Callable[..., None], *args: Any) -> None:
        try:
            step(*args)
        except Exception as error:
            logger.error("node_failed", exc_info=not isinstance(error, QuoitError))
            self.fail(_reason(error), error)

    def fail(self, message: str, error: BaseException | None = None) -> None:
        """Stop serving at once: what is not acknowledged by now never will be. `error`: what was
        raised; if it is damage that the peers can repair, that is noted."""
        if self._stopped:
            return
        self._stopped = True
        if error is not None:
            self.heals = self._quarantine.found(error, self.clock.wall_ms())
        if self.heals or isinstance(error, EngineDamaged):
            message += HEALS if self.heals else STAYS
        logger.error("node_failed", reason=message)
        for server in self.servers + self.client_servers:
            server.close()
        if not self.failed.done():
            self.failed.set_result(message)

    # Peers

    def peer_frame(self, peer: int, payload: bytes) -> None:
        """A frame arrived."""
        if self._stopped:
            return
        try:
            self.node.on_frame(peer, payload)
        except PeerFault:
            raise
        except Exception as error:
            logger.error("node_failed", exc_info=not isinstance(error, QuoitError))
            self.fail(_reason(error), error)

    def peer_turn(self) -> None:
        """All frames of one read were handed over."""
        self.kick()

    def peer_connected(self, peer: int, connected: bool) -> None:
        """The connection on which this node sends to `peer` was made or lost."""
        if self._stopped:
            return
        logger.info("peer_connected" if connected else "peer_lost", peer=peer)
        self._guarded(self.node.on_peer, peer, connected)
        if self.node.standings.changed:
            self.notes.peers()
        self.kick()

    @property
    def standing(self) -> tuple[int, int, int]:
        """What this node says of its log when it meets another."""
        own = self.node.standings.own
        return own.directory, own.life, own.began

    def peer_refusal(self, peer: int, standing: tuple[int, int, int]) -> str:
        """Why there must be no connection with somebody who says to be `peer` in this standing; or ""."""
        gone = self.node.cluster.refuses(peer)
        return gone or self.node.standings.refusal(peer, Standing(*standing))

    def peer_met(self, peer: int, standing: tuple[int, int, int]) -> None:
        """`peer` proved who it is, and was not refused."""
        self.node.standings.met(peer, Standing(*standing))

    def peer_refuses(self, peer: int, reason: str) -> None:
        """`peer`, which proved who it is, refuses this node for good."""
        if not self._stopped:
            marks = self.node.standings.taken()
            marks.refused = reason
            # At once: with the failure this process ends.
            self._guarded(write_peer_marks, self.directory, marks)
            self.fail(f"refused by node {peer}: {reason}")

    def peer_rejected(self, address: str, reason: str) -> None:
        """Somebody failed the handshake or broke the protocol."""
        logger.warning("peer_rejected", address=address, reason=reason)

    def _trace(self, event: str, /, **facts: object) -> None:
        if event in _WARNINGS:
            logger.warning(event, **facts)
        elif event == "leader":
            logger.info(event, **facts)
        else:
            logger.debug(event, **facts)

    # The end

    async def stop(self, grace_s: float = 5.0) -> None:
        """Stop in order: no new clients, hand leaderships over, finish what is in flight."""
        for server in self.client_servers:
            server.close()
        if not self._stopped:
            deadline = self.loop.time() + grace_s
            self.node.begin_stop()
            self.kick()
            while self.loop.time() < deadline:
                alone = not any(dialer.current for dialer in self.dialers.values())
                if not self.node.pending and (alone or not self.node.serving):
                    break
                await asyncio.sleep(0.01)
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for server in self.servers:
            server.close()
        for dialer in self.dialers.values():
            await dialer.stop()
        for connection in list(self.accepted):
            connection.cut()
        self.log_thread.stop()
        await self.loop.run_in_executor(self._executor, self._close_storage)
        self._executor.shutdown()
        self._lock.release()

    def _close_storage(self) -> None:
        try:
            # So that the next start has nothing to apply again.
            while not self.engine.settle(_RECORDS_AT_ONCE):
                pass
            self.engine.flush()
        except EngineDamaged as error:
            # Its next start begins with that.
            self._quarantine.found(error, self.clock.wall_ms())
        self.notes.close()
        self.engine.close()
        self.log.close()
