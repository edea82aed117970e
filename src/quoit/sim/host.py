"""What a simulated machine asks of the world that it is in."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from quoit.node.replica import Replica
from quoit.quorum.agreement import Ready
from quoit.sim.options import Options
from quoit.storage.log import Write

if TYPE_CHECKING:
    from quoit.sim.machine import Machine

__all__ = ["Host"]


class Host(Protocol):
    """What a machine asks of its world."""

    @property
    def now_us(self) -> int:
        """True virtual time."""
        ...

    options: Options

    def after(self, delay_us: int, call: Callable[..., None], *args: object) -> None:
        """Call later."""
        ...

    def start(self, node: int) -> None:
        """A dead node's process starts again."""
        ...

    def send(self, sender: int, receiver: int, payload: bytes, *, urgent: bool) -> None:
        """Put a frame on its way."""
        ...

    def note(self, node: int, event: str, /, **facts: object) -> None:
        """A fact for the trace."""
        ...

    def started(self, machine: "Machine") -> None:
        """The process runs and can be connected to."""
        ...

    def synced(self, machine: "Machine", write: Write) -> None:
        """A log write is durable."""
        ...

    def died(self, machine: "Machine", *, told: bool) -> None:
        """The process is gone; `told`: its connections are reset at once."""
        ...

    def fail(self, kind: str, check: str, reason: str) -> None:
        """The run failed."""
        ...

    def took(self, machine: "Machine", replica: Replica, ready: Ready) -> None:
        """The node is about to carry out a Ready."""
        ...

    def turned(self, machine: "Machine") -> None:
        """The node had a turn."""
        ...

    def hit(self, kind: str) -> None:
        """A fault touched something."""
        ...

    def saw(self, event: str, count: int = 1) -> None:
        """Something happened that runs should cover."""
        ...

    def broken(self, machine: "Machine", error: BaseException) -> None:
        """The node failed in a way that no fault explains."""
        ...
