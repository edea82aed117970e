"""What all Redis connections of one node share: settings, the list of clients, counters."""

import os
import time
from collections import defaultdict
from hashlib import sha1
from typing import Protocol

import msgspec

from quoit.base import limits
from quoit.data import commands as data_commands
from quoit.data.table import Spec
from quoit.gateways.resp import commands as own_commands
from quoit.gateways.resp.connection import RespConnection
from quoit.node.router import Router
from quoit.node.session import Session
from quoit.node.status import NodeStatus

__all__ = ["Host", "HostNode", "RespGateway", "RespSettings"]

_STATUS_MAX_AGE_S = 0.1

# Why: importing them fills the table of commands.
_FILLED = (data_commands, own_commands)


class HostNode(Protocol):
    """What the gateway uses of `quoit.node.node.Node`."""

    router: Router
    wall_ms: int

    def submit(self, session: Session, ticket: int, spec: Spec, args: list[bytes]) -> bytes | None:
        """A data command."""
        ...

    def submit_transaction(
        self, session: Session, ticket: int, commands: list[tuple[int, Spec, list[bytes]]]
    ) -> bytes | None:
        """EXEC."""
        ...

    def watch(self, session: Session, ticket: int, keys: list[bytes]) -> bytes | None:
        """WATCH."""
        ...

    def close_session(self, session: Session) -> None:
        """The client is gone."""
        ...

    def status(self) -> NodeStatus:
        """For INFO and CLUSTER."""
        ...


class Host(Protocol):
    """What runs the node: `quoit.runtime.driver.Driver`."""

    @property
    def node(self) -> HostNode:
        """The node."""
        ...

    def kick(self) -> None:
        """Schedule a turn."""
        ...

    def fail(self, message: str, error: BaseException | None = None) -> None:
        """The node must stop, because of `error`."""
        ...


class RespSettings(msgspec.Struct, kw_only=True):
    """Settings of the Redis endpoint. `clients_max` and `bulk_bytes_max` can change at run time."""

    password: bytes = b""
    """Empty: clients need none."""
    bulk_bytes_max: int = limits.BULK_BYTES_DEFAULT
    """Greatest length of one argument."""
    request_bytes_max: int = 2 * limits.BULK_BYTES_DEFAULT
    """Greatest sum of one command's arguments; it must fit into one frame between nodes."""
    inline_bytes_max: int = limits.INLINE_BYTES_MAX
    clients_max: int = 10_000
    unanswered_max: int = 4096
    """Reading from a client pauses while it has more commands than this without a reply."""
    held_bytes_max: int = 32 * 1024 * 1024
    """No further command of a client runs while more reply bytes than this wait for their turn."""
    output_bytes_max: int = 256 * 1024 * 1024
    """A client with more unsent reply bytes than this is disconnected."""
    port: int = 0
    """For INFO."""


class RespGateway:
    """Makes and knows the connections of one node.

    clients   by connection id
    calls     command name -> times it was called
    errors    error code -> times the gateway itself answered it
    """

    def __init__(self, settings: RespSettings) -> None:
        self.settings = settings
        self.clients: dict[int, RespConnection] = {}
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.errors: defaultdict[str, int] = defaultdict(int)
        self.connections_received = 0
        self.connections_rejected = 0
        self.output_limit_disconnections = 0
        self.input_bytes = 0
        self.output_bytes = 0
        self.started_s = time.time()
        self.process_id = os.getpid()
        self._last_id = 0
        self._status: NodeStatus | None = None
        self._status_s = 0.0

    def connect(self, host: Host) -> RespConnection:
        """A connection object for asyncio's `create_server`."""
        self._last_id += 1
        return RespConnection(self, host, self._last_id)

    def run_id(self, status: NodeStatus) -> str:
        """40 hexadecimal digits that name this run of this node."""
        run = f"{status.cluster_id}/{status.node_id}/{self.process_id}/{self.started_s}"
        return sha1(run.encode()).hexdigest()

    def reset_counters(self) -> None:
        """CONFIG RESETSTAT."""
        self.calls.clear()
        self.errors.clear()
        self.connections_received = self.connections_rejected = 0
        self.output_limit_disconnections = self.input_bytes = self.output_bytes = 0

    def status(self, node: HostNode) -> NodeStatus:
        """The node's status, at most 100 ms old: map-aware clients ask for it in bursts."""
        now = time.monotonic()
        if self._status is None or now - self._status_s > _STATUS_MAX_AGE_S:
            self._status = node.status()
            self._status_s = now
        return self._status
