"""What detectors say to one another; the node puts it into its frames."""

from typing import TypeAlias

import msgspec

from quoit.base.ids import NodeId

__all__ = ["DetectorMessage", "Ping", "PingAck", "PingRequest"]


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=120):
    """Answer at once."""

    probe: int
    """Unique in the sender's life and rising; the answer names it."""
    incarnation: int
    """The sender's life: rises with each start of its process."""
    health: int
    """The sender's local health score."""


class PingRequest(msgspec.Struct, frozen=True, array_like=True, tag=121):
    """I cannot hear `target`. Ping it, and tell me."""

    probe: int
    target: NodeId
    wait_us: int
    """How long the sender waits for the answer."""
    incarnation: int
    health: int


class PingAck(msgspec.Struct, frozen=True, array_like=True, tag=122):
    """The answer to a Ping (then the target is the sender) or to a PingRequest."""

    probe: int
    target: NodeId
    reached: bool
    """False: the helper is well, but the target did not answer it in time (Lifeguard's nack)."""
    target_incarnation: int
    """The target's life that answered; 0 if none did."""
    health: int
    """The sender's local health score."""


DetectorMessage: TypeAlias = Ping | PingRequest | PingAck
